/* What MyMalloc's options change, a case each. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "options.c:%d: wrong: %s\n", __LINE__, #condition); \
            _exit(1); \
        } \
    } while (0)

static void *hide(void *pointer) {
    __asm__ volatile("" : "+r"(pointer) : : "memory");
    return pointer;
}

static void nothing(void) { free(hide(malloc(100))); }

/* Without allocating: there may be no memory left. */
static long resident_pages(void) {
    char text[100] = {0}, *rest;
    int file = open("/proc/self/statm", O_RDONLY);
    CHECK(file >= 0 && read(file, text, sizeof text - 1) > 0);
    close(file);
    strtol(text, &rest, 10);
    return strtol(rest, NULL, 10);
}

/* Under 64 MiB: blocks until there are none, twice, and what is idle makes way for what is wanted. */
static void limit(void) {
    static unsigned char *blocks[100000];
    size_t sizes[] = {1000, 100000, 3000000, 1000};
    for (int round = 0; round < 4; round++) {
        int count = 0;
        errno = 0;
        while ((blocks[count] = hide(malloc(sizes[round])))) {
            memset(blocks[count], 1, sizes[round]);
            count++;
            CHECK(count < 100000);
        }
        CHECK(errno == ENOMEM);
        size_t bytes = count * sizes[round];
        CHECK(bytes > 24 << 20 && bytes <= 64 << 20);
        CHECK(resident_pages() < (80 << 20) / 4096);
        CHECK(!hide(realloc(blocks[0], 65 << 20)));
        for (int i = 0; i < count; i++) free(blocks[i]);
        malloc_trim(0);
    }
    void *most = hide(malloc(40 << 20));
    CHECK(most);
    memset(most, 1, 40 << 20);
    free(most);
    /* Idle, but still there. */
    CHECK(most = hide(malloc(50 << 20)));
    free(most);
    /* Idle in magazines: some of every size, so often that they are kept. */
    for (size_t bytes = 20 << 10; bytes <= 256 << 10; bytes += 4 << 10)
        for (int round = 0; round < 40; round++) {
            int count = (1 << 20) / bytes;
            for (int i = 0; i < count; i++) CHECK(blocks[i] = hide(malloc(bytes)));
            for (int i = 0; i < count; i++) free(blocks[i]);
        }
    CHECK(most = hide(malloc(60 << 20)));
    free(most);
    puts("ok");
}

static void idle(void) {
    unsigned char *blocks[20];
    long before = resident_pages();
    for (int i = 0; i < 20; i++) memset(blocks[i] = hide(malloc(1 << 20)), 1, 1 << 20);
    CHECK(resident_pages() > before + 20 * 200);
    for (int i = 0; i < 20; i++) free(blocks[i]);
    /* At most 20 seconds on a busy machine; a tenth of one by itself. */
    for (int i = 0; i < 2000 && resident_pages() > before + 1000; i++) usleep(10000);
    CHECK(resident_pages() <= before + 1000);
    puts("ok");
}

/* Whether the system makes a huge page of memory that it is asked to. */
static int has_huge_pages(void) {
    enum { HUGE = 2 << 20 };
    char *memory = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    char *page = (char *)(((uintptr_t)memory + HUGE - 1) & ~(uintptr_t)(HUGE - 1));
    *page = 1;
    int has = madvise(page, HUGE, 25) == 0;
    munmap(memory, 2 * HUGE);
    return has;
}

/* Faults while 64 MiB of small blocks are written, of which half come after the first 24 MiB; zeroes in memory that
 * was used; and what is idle goes back. */
static void huge(void) {
    enum { COUNT = 65536 };
    static unsigned char *blocks[COUNT];
    struct rusage before, after;
    long start = resident_pages();
    getrusage(RUSAGE_SELF, &before);
    for (int i = 0; i < COUNT; i++) memset(blocks[i] = hide(malloc(1000)), 1, 1000);
    getrusage(RUSAGE_SELF, &after);
    unsigned char *zeroes = hide(calloc(1, 300000));
    for (int i = 0; i < 300000; i++) CHECK(zeroes[i] == 0);
    for (int i = 0; i < COUNT; i++) free(blocks[i]);
    malloc_trim(0);
    CHECK(resident_pages() < start + 2000);
    printf("%ld faults, huge pages: %s\n", after.ru_minflt - before.ru_minflt, has_huge_pages() ? "yes" : "no");
}

static sigjmp_buf out;
static void on_fault(int number) {
    (void)number;
    siglongjmp(out, 1);
}

/* Writes on and on from a block's end; how far it may, is the question. */
static void overflow_of(volatile unsigned char *block, size_t size, size_t most) {
    struct sigaction action = {.sa_handler = on_fault};
    sigaction(SIGSEGV, &action, NULL);
    if (sigsetjmp(out, 1)) {
        (void)!write(1, "faulted\n", 8);
        _exit(0);
    }
    for (size_t at = 0; at < most; at++) block[size + at] = 1;
    (void)!write(1, "passed\n", 7);
    _exit(0);
}
static void overflow(size_t size, size_t most) { overflow_of(hide(malloc(size)), size, most); }
static void overflow_small(void) { overflow(1000, 33000); }
static void overflow_medium(void) { overflow(100000, 5000 + 8192); }
static void overflow_large(void) { overflow(1000000, 5000); }

static void overflow_shrunk(void) {
    overflow_of(hide(realloc(hide(malloc(9 << 20)), 8 << 20)), 8 << 20, 4096);
}
static void overflow_shrunk_medium(void) {
    overflow_of(hide(realloc(hide(malloc(212992)), 196608)), 196608, 4096);
}
static void overflow_grown(void) { overflow_of(hide(realloc(hide(malloc(100000)), 110592)), 110592, 8192); }

/* Where blocks lie, from the first one on. */
static void order(void) {
    char *first = hide(malloc(48));
    for (int i = 0; i < 32; i++) {
        char line[32], *block = hide(malloc(48));
        int length = snprintf(line, sizeof line, "%ld\n", (long)(block - first));
        (void)!write(1, line, length);
    }
}

int main(int count, char **arguments) {
    static const struct {
        const char *name;
        void (*run)(void);
    } cases[] = {{"nothing", nothing}, {"limit", limit}, {"idle", idle}, {"huge", huge},
                 {"overflow_small", overflow_small}, {"overflow_medium", overflow_medium},
                 {"overflow_large", overflow_large},
                 {"overflow_shrunk", overflow_shrunk}, {"overflow_grown", overflow_grown},
                 {"overflow_shrunk_medium", overflow_shrunk_medium}, {"order", order}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (count > 1 && !strcmp(arguments[1], cases[i].name)) cases[i].run();
    return 0;
}
