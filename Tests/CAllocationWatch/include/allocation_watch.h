#ifndef ALLOCATION_WATCH_H
#define ALLOCATION_WATCH_H

#include <stdint.h>

/// What threads under watch asked of the allocator.
struct weave_watch_counts {
    uint64_t allocations;
    uint64_t frees;
};

/// Counts from here on what threads do whose names begin with `prefix` (at most 15 bytes). Returns 0, or -1 in a build
/// whose sanitizer has an allocator of its own. One watch at a time.
int weave_watch_begin(const char *prefix);

/// Ends the watch and returns what was counted.
struct weave_watch_counts weave_watch_end(void);

#endif
