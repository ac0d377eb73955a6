/* An allocator with a known tail: on each thread, every EVERY-th malloc of STALL_SIZE bytes spins for
 * STALL_NS by the clock before it returns. Blocks come from a large arena that is written beforehand, so
 * that nothing else is slow, and are never used again.
 * With MARKER, a path: processes that find such a file do not stall; the first stall makes it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifndef STALL_SIZE
#define STALL_SIZE 777
#endif
#ifndef EVERY
#define EVERY 1000
#endif
#ifndef STALL_NS
#define STALL_NS 2000000
#endif
#define ARENA ((size_t)64 << 20)
#define HEADER ((size_t)16)

static char *arena;
static atomic_size_t used;
static int stalls = 1;
static __thread unsigned count;

static void start(void) {
    void *memory = mmap(0, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) return;
    arena = memory;
#ifdef MARKER
    stalls = access(MARKER, F_OK) != 0;
#endif
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void stall(void) {
    uint64_t start_ns = now_ns();
#ifdef MARKER
    int file = open(MARKER, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (file >= 0) close(file);
#endif
    while (now_ns() - start_ns < STALL_NS) {}
}

static void *take(size_t alignment, size_t size) {
    /* The loader calls before any constructor has run. */
    if (!arena) start();
    if (alignment < 16) alignment = 16;
    if (!arena || size > ARENA) { errno = ENOMEM; return 0; }
    size_t bytes = (HEADER + size + alignment + 15) & ~(size_t)15;
    size_t from = atomic_fetch_add(&used, bytes);
    if (from + bytes > ARENA) { errno = ENOMEM; return 0; }
    char *block = (char *)(((uintptr_t)arena + from + HEADER + alignment - 1) & ~(uintptr_t)(alignment - 1));
    *(size_t *)(block - HEADER) = size;
    return block;
}

void *malloc(size_t size) {
    if (size == STALL_SIZE && ++count % EVERY == 0 && stalls) stall();
    return take(16, size);
}

void free(void *block) { (void)block; }

void *calloc(size_t n, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes)) { errno = ENOMEM; return 0; }
    return take(16, bytes); /* never used before */
}

size_t malloc_usable_size(void *block) { return block ? *(size_t *)((char *)block - HEADER) : 0; }

void *realloc(void *old, size_t size) {
    void *block = take(16, size);
    size_t kept = malloc_usable_size(old);
    if (old && block) memcpy(block, old, kept < size ? kept : size);
    return block;
}

int posix_memalign(void **out, size_t alignment, size_t size) {
    void *block = take(alignment, size);
    if (!block) return ENOMEM;
    *out = block;
    return 0;
}

void *aligned_alloc(size_t alignment, size_t size) { return take(alignment, size); }
void *memalign(size_t alignment, size_t size) { return take(alignment, size); }
