#define _GNU_SOURCE
#include "linux_packet.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <linux/filter.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

// Kernels know these longer than some headers.
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef SO_ATTACH_REUSEPORT_CBPF
#define SO_ATTACH_REUSEPORT_CBPF 51
#endif
#ifndef SOL_UDP
#define SOL_UDP 17
#endif

static int result(int value) { return value < 0 ? -errno : value; }

int weave_tap_attach(const char *name, unsigned options, char *actual) {
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return -errno;
    struct ifreq request;
    memset(&request, 0, sizeof request);
    strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
    request.ifr_flags = IFF_TAP | IFF_NO_PI;
    if (options & WEAVE_TAP_VNET_HEADER) request.ifr_flags |= IFF_VNET_HDR;
    if (options & WEAVE_TAP_MULTI_QUEUE) request.ifr_flags |= IFF_MULTI_QUEUE;
    if (ioctl(fd, TUNSETIFF, &request) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    memcpy(actual, request.ifr_name, sizeof request.ifr_name);
    return fd;
}

int weave_tap_set_offloads(int fd, unsigned offloads) {
    return result(ioctl(fd, TUNSETOFFLOAD, (unsigned long)offloads));
}

int weave_tap_options(int fd) {
    struct ifreq request;
    memset(&request, 0, sizeof request);
    if (ioctl(fd, TUNGETIFF, &request) < 0) return -errno;
    int options = 0;
    if (request.ifr_flags & IFF_VNET_HDR) options |= WEAVE_TAP_VNET_HEADER;
    if (request.ifr_flags & IFF_MULTI_QUEUE) options |= WEAVE_TAP_MULTI_QUEUE;
    return options;
}

int weave_tap_set_header_length(int fd, int length) { return result(ioctl(fd, TUNSETVNETHDRSZ, &length)); }

int weave_udp_open(uint32_t address, uint16_t port, int dont_fragment) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    int on = 1, discover = dont_fragment ? IP_PMTUDISC_DO : IP_PMTUDISC_DONT;
    struct sockaddr_in local;
    memset(&local, 0, sizeof local);
    local.sin_family = AF_INET;
    local.sin_addr.s_addr = address;
    local.sin_port = htons(port);
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0 ||
        setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &discover, sizeof discover) < 0 ||
        setsockopt(fd, IPPROTO_IP, IP_RECVERR, &on, sizeof on) < 0 ||
        bind(fd, (struct sockaddr *)&local, sizeof local) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

void weave_udp_set_buffers(int fd, int bytes) {
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) < 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) < 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
}

int weave_udp_steer(int fd, unsigned receivers) {
    // The program sees the payload: its first six bytes are the sender's name. A shorter one ends the program with 0.
    struct sock_filter spread[] = {
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, 2},
        {BPF_ALU | BPF_MOD | BPF_K, 0, 0, receivers},
        {BPF_RET | BPF_A, 0, 0, 0},
    };
    struct sock_filter first[] = {{BPF_RET | BPF_K, 0, 0, 0}};
    struct sock_fprog program = {3, spread};
    if (receivers <= 1) {
        program.len = 1;
        program.filter = first;
    }
    return result(setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program));
}

int weave_udp_enable_gro(int fd) {
    int on = 1;
    return result(setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on));
}

static struct sockaddr_in endpoint(uint32_t address, uint16_t port) {
    struct sockaddr_in remote;
    memset(&remote, 0, sizeof remote);
    remote.sin_family = AF_INET;
    remote.sin_addr.s_addr = address;
    remote.sin_port = htons(port);
    return remote;
}

int weave_udp_path_mtu(int fd, uint32_t address, uint16_t port) {
    struct sockaddr_in remote = endpoint(address, port);
    if (connect(fd, (struct sockaddr *)&remote, sizeof remote) < 0) return -errno;
    int mtu = 0;
    socklen_t length = sizeof mtu;
    if (getsockopt(fd, IPPROTO_IP, IP_MTU, &mtu, &length) < 0) return -errno;
    return mtu;
}

int weave_udp_port(int fd) {
    struct sockaddr_in local;
    socklen_t length = sizeof local;
    if (getsockname(fd, (struct sockaddr *)&local, &length) < 0) return -errno;
    return ntohs(local.sin_port);
}

// Room for the size of the segments that UDP_GRO reports.
enum { CONTROL_LENGTH = 64 };

struct weave_receiver {
    unsigned count;
    struct mmsghdr *messages;
    struct iovec *places;
    struct sockaddr_in *senders;
    uint8_t *controls;
};

static void rearm(struct weave_receiver *receiver, unsigned index) {
    struct msghdr *header = &receiver->messages[index].msg_hdr;
    header->msg_name = &receiver->senders[index];
    header->msg_namelen = sizeof receiver->senders[index];
    header->msg_control = receiver->controls + (size_t)index * CONTROL_LENGTH;
    header->msg_controllen = CONTROL_LENGTH;
    header->msg_flags = 0;
}

struct weave_receiver *weave_receiver_create(uint8_t *places, size_t stride, unsigned count) {
    struct weave_receiver *receiver = calloc(1, sizeof *receiver);
    if (!receiver) return NULL;
    receiver->count = count;
    receiver->messages = calloc(count, sizeof *receiver->messages);
    receiver->places = calloc(count, sizeof *receiver->places);
    receiver->senders = calloc(count, sizeof *receiver->senders);
    receiver->controls = calloc(count, CONTROL_LENGTH);
    if (!receiver->messages || !receiver->places || !receiver->senders || !receiver->controls) {
        weave_receiver_free(receiver);
        return NULL;
    }
    for (unsigned i = 0; i < count; i++) {
        receiver->places[i].iov_base = places + i * stride;
        receiver->places[i].iov_len = stride;
        receiver->messages[i].msg_hdr.msg_iov = &receiver->places[i];
        receiver->messages[i].msg_hdr.msg_iovlen = 1;
        rearm(receiver, i);
    }
    return receiver;
}

void weave_receiver_free(struct weave_receiver *receiver) {
    if (!receiver) return;
    free(receiver->messages);
    free(receiver->places);
    free(receiver->senders);
    free(receiver->controls);
    free(receiver);
}

int weave_receiver_receive(struct weave_receiver *receiver, int fd, struct weave_incoming *incoming) {
    int count = recvmmsg(fd, receiver->messages, receiver->count, MSG_DONTWAIT, NULL);
    if (count < 0) return -errno;
    for (int i = 0; i < count; i++) {
        struct msghdr *header = &receiver->messages[i].msg_hdr;
        incoming[i].address = receiver->senders[i].sin_addr.s_addr;
        incoming[i].port = ntohs(receiver->senders[i].sin_port);
        incoming[i].length = receiver->messages[i].msg_len;
        incoming[i].truncated = (header->msg_flags & MSG_TRUNC) != 0;
        incoming[i].segment_size = 0;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
            if (c->cmsg_level != SOL_UDP || c->cmsg_type != UDP_GRO) continue;
            int size = 0;
            memcpy(&size, CMSG_DATA(c), sizeof size);
            if (size > 0 && size < 0x10000) incoming[i].segment_size = (uint16_t)size;
        }
        rearm(receiver, (unsigned)i);
    }
    return count;
}

int weave_udp_send(int fd, const uint8_t *base, const struct weave_outgoing *outgoing, unsigned count) {
    struct mmsghdr messages[WEAVE_SEND_BATCH];
    struct iovec places[WEAVE_SEND_BATCH];
    struct sockaddr_in remotes[WEAVE_SEND_BATCH];
    union {
        char bytes[CMSG_SPACE(sizeof(uint16_t)) + CMSG_SPACE(sizeof(struct in_pktinfo))];
        struct cmsghdr alignment;
    } controls[WEAVE_SEND_BATCH];
    if (count > WEAVE_SEND_BATCH) count = WEAVE_SEND_BATCH;
    for (unsigned i = 0; i < count; i++) {
        struct msghdr *header = &messages[i].msg_hdr;
        remotes[i] = endpoint(outgoing[i].address, outgoing[i].port);
        places[i].iov_base = (void *)(base + outgoing[i].offset);
        places[i].iov_len = outgoing[i].length;
        memset(header, 0, sizeof *header);
        header->msg_name = &remotes[i];
        header->msg_namelen = sizeof remotes[i];
        header->msg_iov = &places[i];
        header->msg_iovlen = 1;
        size_t used = 0;
        if (outgoing[i].segment_size) {
            struct cmsghdr *c = (struct cmsghdr *)(controls[i].bytes + used);
            c->cmsg_level = SOL_UDP;
            c->cmsg_type = UDP_SEGMENT;
            c->cmsg_len = CMSG_LEN(sizeof(uint16_t));
            memcpy(CMSG_DATA(c), &outgoing[i].segment_size, sizeof(uint16_t));
            used += CMSG_SPACE(sizeof(uint16_t));
        }
        if (outgoing[i].source) {
            struct in_pktinfo info;
            memset(&info, 0, sizeof info);
            info.ipi_spec_dst.s_addr = outgoing[i].source;
            struct cmsghdr *c = (struct cmsghdr *)(controls[i].bytes + used);
            c->cmsg_level = IPPROTO_IP;
            c->cmsg_type = IP_PKTINFO;
            c->cmsg_len = CMSG_LEN(sizeof info);
            memcpy(CMSG_DATA(c), &info, sizeof info);
            used += CMSG_SPACE(sizeof info);
        }
        header->msg_control = used ? controls[i].bytes : NULL;
        header->msg_controllen = used;
    }
    return result(sendmmsg(fd, messages, count, MSG_DONTWAIT));
}

int weave_udp_next_error(int fd, struct weave_socket_error *error) {
    uint8_t payload[1];
    struct iovec place = {payload, sizeof payload};
    struct sockaddr_in destination;
    char control[512];
    struct msghdr header = {
        .msg_name = &destination, .msg_namelen = sizeof destination, .msg_iov = &place, .msg_iovlen = 1,
        .msg_control = control, .msg_controllen = sizeof control,
    };
    memset(&destination, 0, sizeof destination);
    if (recvmsg(fd, &header, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) return 0;
    memset(error, 0, sizeof *error);
    error->address = destination.sin_addr.s_addr;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&header); c; c = CMSG_NXTHDR(&header, c)) {
        if (c->cmsg_level != SOL_IP || c->cmsg_type != IP_RECVERR) continue;
        struct sock_extended_err extended;
        memcpy(&extended, CMSG_DATA(c), sizeof extended);
        error->code = extended.ee_errno;
        error->info = extended.ee_info;
    }
    return 1;
}

int weave_poller_create(void) { return result(epoll_create1(EPOLL_CLOEXEC)); }

int weave_poller_add(int poller, int fd, uint32_t tag) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLERR, .data.u32 = tag};
    return result(epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event));
}

int weave_poller_remove(int poller, int fd) { return result(epoll_ctl(poller, EPOLL_CTL_DEL, fd, NULL)); }

static int64_t monotonic_nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int weave_poller_wait(int poller, struct weave_ready *ready, int64_t polling, int64_t *polled) {
    struct epoll_event events[WEAVE_POLLER_BATCH];
    int count = 0;
    *polled = 0;
    int64_t start = polling > 0 ? monotonic_nanoseconds() : 0;
    while (*polled < polling) {
        count = epoll_wait(poller, events, WEAVE_POLLER_BATCH, 0);
        if (count != 0) break;
        sched_yield();
        *polled = monotonic_nanoseconds() - start;
    }
    if (count == 0) count = epoll_wait(poller, events, WEAVE_POLLER_BATCH, -1);
    if (count < 0) return -errno;
    for (int i = 0; i < count; i++) {
        ready[i].tag = events[i].data.u32;
        ready[i].failed = (events[i].events & EPOLLERR) != 0;
    }
    return count;
}

int weave_wakeup_create(void) { return result(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)); }

void weave_sharpen_timers(void) { prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL); }

void weave_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }
