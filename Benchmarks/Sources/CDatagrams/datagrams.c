#define _GNU_SOURCE
#include "datagrams.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

// One system call's worth.
struct batch {
    struct mmsghdr messages[DATAGRAMS_BATCH];
    struct iovec places[DATAGRAMS_BATCH];
    uint8_t bytes[DATAGRAMS_BATCH][DATAGRAMS_LENGTH];
};

static void prepare(struct batch *batch, uint32_t length) {
    memset(batch, 0, sizeof *batch);
    for (int i = 0; i < DATAGRAMS_BATCH; i++) {
        batch->places[i] = (struct iovec){.iov_base = batch->bytes[i], .iov_len = length};
        batch->messages[i].msg_hdr.msg_iov = &batch->places[i];
        batch->messages[i].msg_hdr.msg_iovlen = 1;
    }
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int64_t refused(int fd) {
    int code = errno;
    if (fd >= 0) close(fd);
    return -code;
}

int64_t datagrams_send(const char *address, uint16_t port, uint32_t length, double per_second, double seconds) {
    static struct batch batch;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (length > DATAGRAMS_LENGTH || inet_pton(AF_INET, address, &to.sin_addr) != 1) return -EINVAL;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0) return refused(fd);
    prepare(&batch, length);
    int64_t sent = 0;
    double start = now(), passed;
    while ((passed = now() - start) < seconds) {
        if ((double)sent > per_second * passed) {
            struct timespec turn = {.tv_nsec = 50000};
            nanosleep(&turn, NULL);
            continue;
        }
        int taken = sendmmsg(fd, batch.messages, DATAGRAMS_BATCH, 0);
        if (taken > 0) sent += taken;
        // The other end may not listen yet, and full queues are what is looked for.
        else if (errno != ECONNREFUSED && errno != ENOBUFS && errno != EINTR) return refused(fd);
    }
    close(fd);
    return sent;
}

int datagrams_receive(uint16_t port, uint32_t length, int buffer, double seconds, struct datagrams_received *received) {
    static struct batch batch;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    // So that the end is noticed when nothing arrives.
    struct timeval turn = {.tv_usec = 100000};
    memset(received, 0, sizeof *received);
    if (length > DATAGRAMS_LENGTH) return -EINVAL;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &turn, sizeof turn) < 0 ||
        bind(fd, (struct sockaddr *)&at, sizeof at) < 0)
        return (int)refused(fd);
    prepare(&batch, DATAGRAMS_LENGTH);
    double start = now(), first = 0, last = 0;
    while (now() - start < seconds) {
        int count = recvmmsg(fd, batch.messages, DATAGRAMS_BATCH, MSG_WAITFORONE, NULL);
        if (count < 0 && errno != EAGAIN && errno != EINTR) return (int)refused(fd);
        if (count <= 0) continue;
        last = now();
        if (first == 0) first = last;
        for (int i = 0; i < count; i++) received->count += batch.messages[i].msg_len == length;
    }
    received->seconds = last - first;
    close(fd);
    return 0;
}
