#ifndef WEAVE_LINUX_LINK_H
#define WEAVE_LINUX_LINK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// Every function returns 0 or a count on success and a negative errno otherwise.

/// Moves the calling thread into the network namespace `fd` refers to.
int weave_setns_net(int fd);
/// Whether `fd` is a network namespace: 1 or 0 (kernels from 4.11 on can tell).
int weave_is_network_namespace(int fd);
/// Gives the calling thread a network namespace of its own that nobody else knows.
int weave_unshare_net(void);

/// One ethtool on/off feature of the old ioctl interface: `command` is ETHTOOL_G..., `value` gets 0 or 1.
int weave_ethtool_get(const char *device, uint32_t command, uint32_t *value);
int weave_ethtool_set(const char *device, uint32_t command, uint32_t value);
enum {
    weave_ethtool_get_rx_checksum = 0x14,
    weave_ethtool_set_rx_checksum = 0x15,
    weave_ethtool_get_tx_checksum = 0x16,
    weave_ethtool_set_tx_checksum = 0x17,
    weave_ethtool_get_tso = 0x1e,
    weave_ethtool_set_tso = 0x1f,
    weave_ethtool_get_gso = 0x23,
    weave_ethtool_set_gso = 0x24,
    weave_ethtool_get_gro = 0x2b,
    weave_ethtool_set_gro = 0x2c,
};

/// Sets whether a TAP device outlives its last descriptor.
int weave_tap_persist(int fd, int on);

/// An empty file without a name that children do not inherit; its descriptor.
int weave_memory_file(void);

/// Sends one whole Ethernet frame out of the device with this index.
int weave_send_frame(int index, const void *frame, size_t length);

#endif
