#define _GNU_SOURCE
#include "linux_link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/nsfs.h>
#include <linux/sockios.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

int weave_setns_net(int fd) { return setns(fd, CLONE_NEWNET) < 0 ? -errno : 0; }

int weave_is_network_namespace(int fd) { return ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET; }

int weave_unshare_net(void) { return unshare(CLONE_NEWNET) < 0 ? -errno : 0; }

static int set_name(struct ifreq *request, const char *device) {
    memset(request, 0, sizeof *request);
    size_t length = strlen(device);
    if (length == 0 || length >= IFNAMSIZ) return -EINVAL;
    memcpy(request->ifr_name, device, length);
    return 0;
}

static int ethtool(const char *device, struct ethtool_value *value) {
    struct ifreq request;
    int result = set_name(&request, device);
    if (result < 0) return result;
    request.ifr_data = (void *)value;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    result = ioctl(fd, SIOCETHTOOL, &request) < 0 ? -errno : 0;
    close(fd);
    return result;
}

int weave_ethtool_get(const char *device, uint32_t command, uint32_t *value) {
    struct ethtool_value request = {.cmd = command};
    int result = ethtool(device, &request);
    if (result == 0) *value = request.data;
    return result;
}

int weave_ethtool_set(const char *device, uint32_t command, uint32_t value) {
    struct ethtool_value request = {.cmd = command, .data = value};
    return ethtool(device, &request);
}

int weave_tap_persist(int fd, int on) { return ioctl(fd, TUNSETPERSIST, on) < 0 ? -errno : 0; }

int weave_send_frame(int index, const void *frame, size_t length) {
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = index, .sll_halen = ETH_ALEN};
    if (length >= ETH_ALEN) memcpy(address.sll_addr, frame, ETH_ALEN);
    int result = sendto(fd, frame, length, 0, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
    close(fd);
    return result;
}

int weave_memory_file(void) {
    int fd = memfd_create("weave", MFD_CLOEXEC);
    return fd < 0 ? -errno : fd;
}
