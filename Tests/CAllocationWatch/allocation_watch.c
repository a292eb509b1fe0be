// Stands in front of the C allocator in the test program, where Swift objects come from too, so that a test can say that a
// thread asked for none. Nothing of this is in a product.
#define _GNU_SOURCE
#include "allocation_watch.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>

static char watched[16];
// Odd while a watch is on.
static _Atomic uint32_t generation;
static _Atomic uint64_t allocations, frees;

static bool is_watched(void) {
    static __thread uint32_t seen;
    static __thread bool is_named;
    uint32_t now = atomic_load_explicit(&generation, memory_order_acquire);
    if ((now & 1) == 0) return false;
    if (seen != now) {
        char name[16] = {0};
        prctl(PR_GET_NAME, name);
        is_named = strncmp(name, watched, strlen(watched)) == 0;
        seen = now;
    }
    return is_named;
}

static void count(_Atomic uint64_t *counter) {
    if (is_watched()) atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SANITIZER 1
#endif
#endif

#ifndef HAS_SANITIZER
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

void *malloc(size_t size) {
    count(&allocations);
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size) {
    count(&allocations);
    return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size) {
    count(&allocations);
    return __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    count(&allocations);
    return __libc_memalign(alignment, size);
}

void *memalign(size_t alignment, size_t size) {
    count(&allocations);
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **result, size_t alignment, size_t size) {
    count(&allocations);
    void *made = __libc_memalign(alignment, size);
    if (made == NULL) return ENOMEM;
    *result = made;
    return 0;
}

void free(void *old) {
    count(&frees);
    __libc_free(old);
}
#endif

int weave_watch_begin(const char *prefix) {
#ifdef HAS_SANITIZER
    (void)prefix;
    return -1;
#else
    strncpy(watched, prefix, sizeof watched - 1);
    allocations = frees = 0;
    atomic_fetch_add_explicit(&generation, 1, memory_order_release);
    return 0;
#endif
}

struct weave_watch_counts weave_watch_end(void) {
    atomic_fetch_add_explicit(&generation, 1, memory_order_release);
    return (struct weave_watch_counts){allocations, frees};
}
