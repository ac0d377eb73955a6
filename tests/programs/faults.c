/* A program whose allocator's system calls fail, each in turn: the n-th alone, and all from the n-th on.
 * Runs with `tests/objects/faults.c` and an allocator preloaded. What it gets is a block or null with
 * ENOMEM; blocks keep what they hold; when calls succeed again, so does everything, and nothing was
 * lost. */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern void faults_arm(long from, long count);
extern long faults_calls(void);
extern long faults_failed(int kind);

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            faults_arm(0, 0); \
            fprintf(stderr, "faults.c:%d: wrong: %s (%s %ld)\n", __LINE__, #condition, mode, number); \
            _exit(1); \
        } \
    } while (0)

static const char *mode = "plain";
static long number;
static int must_succeed;

static void *hide(void *pointer) {
    __asm__ volatile("" : "+r"(pointer) : : "memory");
    return pointer;
}

struct block {
    unsigned char *start;
    size_t size;
    unsigned char seed;
};

/* Large blocks are marked here and there: touching their memory is not what takes long here. */
static size_t step_of(size_t size) { return size > 1 << 20 ? 100000 : 1000; }
static void fill(struct block *block) {
    size_t step = step_of(block->size);
    for (size_t at = 0; at < block->size; at += step) block->start[at] = block->seed + at / step;
    if (block->size) block->start[block->size - 1] = block->seed;
}
static void check(const struct block *block, size_t size) {
    size_t whole = size < block->size ? size : block->size, step = step_of(block->size);
    for (size_t at = 0; at + 1 < whole; at += step)
        CHECK(block->start[at] == (unsigned char)(block->seed + at / step));
}

/* A fresh block, or none and ENOMEM. */
static struct block taken(void *start, size_t size, unsigned char seed) {
    struct block block = {start, start ? size : 0, seed};
    if (!start) {
        CHECK(errno == ENOMEM);
        CHECK(!must_succeed);
    }
    fill(&block);
    return block;
}

static void end(struct block *block) {
    check(block, block->size);
    free(block->start);
    block->start = NULL;
    block->size = 0;
}

static void grow(struct block *block, size_t size) {
    if (!block->start) return;
    errno = 0;
    unsigned char *moved = hide(realloc(block->start, size));
    if (!moved) {
        CHECK(errno == ENOMEM && !must_succeed);
        check(block, block->size);
        return;
    }
    block->start = moved;
    check(block, size);
    block->size = size;
    fill(block);
}

static void *in_thread(void *argument) {
    struct block blocks[60];
    for (int i = 0; i < 60; i++) {
        errno = 0;
        blocks[i] = taken(hide(malloc(100 + 50 * i)), 100 + 50 * i, i);
    }
    for (int i = 0; i < 60; i++) end(&blocks[i]);
    return argument;
}

enum { SMALL = 2000, MEDIUM = 40, LARGE = 12 };

/* Something of everything that makes an allocator call the system. */
static void scenario(void) {
    static struct block small[SMALL], medium[MEDIUM], large[LARGE];
    for (int i = 0; i < SMALL; i++) {
        size_t size = 16 + (size_t)i * 7919 % 2500;
        errno = 0;
        small[i] = taken(hide(malloc(size)), size, i);
    }
    for (int i = 0; i < MEDIUM; i++) {
        size_t size = 20000 + (size_t)i * 4001;
        errno = 0;
        medium[i] = taken(hide(i % 2 ? malloc(size) : calloc(size, 1)), size, i);
    }
    for (int i = 0; i < LARGE; i++) {
        size_t size = (300 << 10) + (size_t)i * (700 << 10);
        errno = 0;
        large[i] = taken(hide(i % 3 ? malloc(size) : memalign(4 << 20, size)), size, i);
    }
    /* Some freed first, so that what grows has to move. */
    for (int i = 0; i < LARGE; i += 2) grow(&large[i], large[i].size * 2 + 5000);
    for (int i = 0; i < SMALL; i += 3) grow(&small[i], small[i].size + 3000);
    for (int i = 0; i < MEDIUM; i += 2) grow(&medium[i], medium[i].size * 3);
    for (int i = 1; i < MEDIUM; i += 2) grow(&medium[i], 1000);
    struct block huge = taken(hide(malloc(40 << 20)), 40 << 20, 9);
    grow(&huge, 60 << 20);
    pthread_t thread;
    /* The thread's stack is the C library's to map; without memory for it there is no thread. */
    if (pthread_create(&thread, NULL, in_thread, NULL) == 0) pthread_join(thread, NULL);
    else CHECK(!must_succeed);
    for (int i = 0; i < LARGE; i++) end(&large[i]);
    end(&huge);
    malloc_trim(0);
    for (int i = 0; i < SMALL; i++) end(&small[i]);
    for (int i = 0; i < MEDIUM; i++) end(&medium[i]);
    malloc_trim(0);
}

static void without_faults(void) {
    faults_arm(0, 0);
    must_succeed = 1;
    scenario();
    must_succeed = 0;
}

/* Blocks in use, and addresses. */
static size_t in_use(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}
static long mapped_pages(void) {
    long pages;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file && fscanf(file, "%ld", &pages) == 1);
    fclose(file);
    return pages;
}

static void run(const char *name, long calls, long step, long count) {
    mode = name;
    for (number = 0; number < calls; number += step) {
        faults_arm(number, count);
        scenario();
        /* What is found to be lost now would be found lost with the blocks of this very run. */
        faults_arm(0, 0);
    }
    number = 0;
    without_faults();
}

int main(int arguments, char **values) {
    /* The very first calls fail: what the process needs once. */
    if (arguments > 1) {
        number = atol(values[1]);
        mode = "start";
        faults_arm(number, atol(values[2]));
        scenario();
        without_faults();
        return 0;
    }
    without_faults();
    without_faults();
    long calls = faults_calls();
    CHECK(calls > 20);
    size_t used = in_use();
    long mapped = mapped_pages();
    /* Guard pages are a thousand calls more, all alike. */
    long step = calls / 100 + 1;
    run("single", calls, step, 1);
    run("lasting", calls, 4 * step, 1L << 40);
    CHECK(in_use() == used);
    /* Two hundred leaks of a page each would not be seen here; of the smallest mapping, they would. */
    /* A guard page that the system does not unlock is lost, addresses only. */
    if (!getenv("MYMALLOC_SECURE")) CHECK(mapped_pages() < mapped + calls * 20);
    static const char *kinds[] = {"mmap", "munmap", "mremap", "madvise", "mprotect"};
    for (int kind = 0; kind < 5; kind++) printf("%s %ld\n", kinds[kind], faults_failed(kind));
    printf("calls %ld\n", calls);
    return 0;
}
