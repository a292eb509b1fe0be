#ifndef WEAVE_LINUX_PACKET_H
#define WEAVE_LINUX_PACKET_H

// What the packet threads need of Linux and Swift cannot import: TAP ioctls, control messages, recvmmsg and sendmmsg.
// Functions return a result of zero or more, or a negated errno. Addresses are in network byte order, ports in host
// byte order.

#include <stddef.h>
#include <stdint.h>

// Bits of weave_tap_attach and of TUNSETOFFLOAD.
enum weave_tap_option {
    WEAVE_TAP_VNET_HEADER = 1,
    WEAVE_TAP_MULTI_QUEUE = 2,
};
enum weave_tap_offload {
    WEAVE_TAP_OFFLOAD_CHECKSUM = 0x01,
    WEAVE_TAP_OFFLOAD_TCP4 = 0x02,
    WEAVE_TAP_OFFLOAD_TCP6 = 0x04,
    WEAVE_TAP_OFFLOAD_TCP_ECN = 0x08,
    WEAVE_TAP_OFFLOAD_UDP4 = 0x20,
    WEAVE_TAP_OFFLOAD_UDP6 = 0x40,
};

// Opens the TAP device `name` (made if there is none) in the network namespace of the calling thread, not blocking.
// The name that the kernel chose is written to `actual` (16 bytes).
int weave_tap_attach(const char *name, unsigned options, char *actual);
// Tells what the reader of the device takes upon itself.
int weave_tap_set_offloads(int fd, unsigned offloads);
// Which of the options of weave_tap_attach the device has.
int weave_tap_options(int fd);
// The length of the header before each frame.
int weave_tap_set_header_length(int fd, int length);

// A UDP socket bound to `address`:`port` beside others of the same port, not blocking, reporting ICMP errors.
int weave_udp_open(uint32_t address, uint16_t port, int dont_fragment);
// Asks for socket buffers of `bytes`, beyond the system's limit when that is allowed.
void weave_udp_set_buffers(int fd, int bytes);
// All datagrams for the port go to the first `receivers` sockets in the order of their binding, those of one sender
// name always to the same.
int weave_udp_steer(int fd, unsigned receivers);
int weave_udp_enable_gro(int fd);
// The path MTU towards `address`, asked of a socket that is used for nothing else.
int weave_udp_path_mtu(int fd, uint32_t address, uint16_t port);
// The port that a socket is bound to.
int weave_udp_port(int fd);

// A datagram, or several of the same size that the kernel put together, of which only the last may be shorter.
struct weave_incoming {
    uint32_t address;
    uint16_t port;
    uint16_t segment_size;  // 0: one datagram
    uint32_t length;
    uint32_t truncated;
};

struct weave_receiver;
// Prepares to receive into `count` places of `stride` bytes each; NULL without memory.
struct weave_receiver *weave_receiver_create(uint8_t *places, size_t stride, unsigned count);
void weave_receiver_free(struct weave_receiver *receiver);
// Receives what is there into the first places.
int weave_receiver_receive(struct weave_receiver *receiver, int fd, struct weave_incoming *incoming);

// One datagram, or several of `segment_size` bytes each with the last perhaps shorter.
struct weave_outgoing {
    uint32_t offset;        // from `base`
    uint32_t length;
    uint32_t address;
    uint32_t source;        // 0: the kernel's choice
    uint16_t port;
    uint16_t segment_size;  // 0: one datagram
};
enum weave_send_limit { WEAVE_SEND_BATCH = 64 };
// Sends up to WEAVE_SEND_BATCH; returns how many went.
int weave_udp_send(int fd, const uint8_t *base, const struct weave_outgoing *outgoing, unsigned count);

// One entry of a socket's error queue; 1 when there was one, else 0.
struct weave_socket_error {
    uint32_t address;   // of the destination of the datagram
    uint32_t code;      // errno
    uint32_t info;      // the path MTU for EMSGSIZE
};
int weave_udp_next_error(int fd, struct weave_socket_error *error);

// Waiting for several descriptors. `tag` is any number but 0.
struct weave_ready {
    uint32_t tag;
    uint32_t failed;    // an error is pending
};
int weave_poller_create(void);
int weave_poller_add(int poller, int fd, uint32_t tag);
int weave_poller_remove(int poller, int fd);
enum weave_poller_limit { WEAVE_POLLER_BATCH = 8 };
// Asks again and again for `polling` nanoseconds, letting others run in between, and then sleeps for as long as it takes;
// fills up to WEAVE_POLLER_BATCH. `*polled` is how many nanoseconds it asked in vain.
int weave_poller_wait(int poller, struct weave_ready *ready, int64_t polling, int64_t *polled);
// An event descriptor.
int weave_wakeup_create(void);
// Lets the calling thread's rests end within a microsecond of their time.
void weave_sharpen_timers(void);
// Names the calling thread for tools; at most 15 bytes count.
void weave_name_thread(const char *name);

#endif
