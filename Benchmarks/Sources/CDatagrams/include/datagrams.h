// A lean pair of programs for datagrams: many in each system call at both ends, so that routers are measured and not the
// programs.
#ifndef WEAVE_BENCH_DATAGRAMS_H
#define WEAVE_BENCH_DATAGRAMS_H

#include <stdint.h>

enum datagrams_limit {
    DATAGRAMS_BATCH = 32,       // in one system call
    DATAGRAMS_LENGTH = 2048,    // the longest payload, in bytes
};

// Sends `per_second` datagrams of `length` bytes to an IPv4 address for some seconds, or as many as it can. Returns how
// many the system took, or -errno.
int64_t datagrams_send(const char *address, uint16_t port, uint32_t length, double per_second, double seconds);

struct datagrams_received {
    int64_t count;
    double seconds;    // from the first to the last
};

// Receives on all IPv4 addresses for some seconds, counting datagrams of `length` bytes; `buffer` bytes may wait in the
// socket. Returns 0 or -errno.
int datagrams_receive(uint16_t port, uint32_t length, int buffer, double seconds, struct datagrams_received *received);

#endif
