/* What a malloc must survive, a case each. Prints what it did; the output does not depend on the
 * allocator.
 *
 *   survive          prints the names
 *   survive NAME     runs one; exit code 1 at the first thing that is wrong
 */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "survive.c:%d: wrong: %s\n", __LINE__, #condition); \
            _exit(1); \
        } \
    } while (0)

static void *hide(void *pointer) {
    __asm__ volatile("" : "+r"(pointer) : : "memory");
    return pointer;
}

static const size_t sizes[] = {1, 16, 24, 100, 1000, 1024, 1025, 4096, 5000, 16384, 16385, 40000, 262144,
                               262145, 1000000, 9000000};
enum { SIZES = sizeof sizes / sizeof *sizes };

static void fill(unsigned char *block, size_t size, int seed) {
    for (size_t at = 0; at < size; at++) block[at] = (unsigned char)(seed + at * 31);
}
static int holds(const unsigned char *block, size_t size, int seed) {
    for (size_t at = 0; at < size; at++)
        if (block[at] != (unsigned char)(seed + at * 31)) return 0;
    return 1;
}

/* From every size to every other, of plain and of aligned blocks: content stays. */
static void realloc_any_to_any(void) {
    for (int from = 0; from < SIZES; from++)
        for (int to = 0; to < SIZES; to++)
            for (size_t alignment = 16; alignment <= 65536; alignment *= 64) {
                size_t kept = sizes[from] < sizes[to] ? sizes[from] : sizes[to];
                if (sizes[from] + sizes[to] > 2000000 && alignment > 16) continue;
                unsigned char *block = hide(memalign(alignment, sizes[from]));
                CHECK(block && (uintptr_t)block % alignment == 0);
                fill(block, sizes[from], from);
                block = hide(realloc(block, sizes[to]));
                CHECK(block && holds(block, kept, from));
                CHECK(malloc_usable_size(block) >= sizes[to]);
                fill(block, sizes[to], to);
                free(block);
            }
}

static void realloc_to_same_and_nothing(void) {
    for (int i = 0; i < SIZES; i++) {
        unsigned char *block = hide(realloc(NULL, sizes[i]));
        fill(block, sizes[i], i);
        unsigned char *same = hide(realloc(block, sizes[i]));
        CHECK(same == block && holds(same, sizes[i], i));
        CHECK(hide(realloc(same, 0)) == NULL);
    }
    free(hide(realloc(NULL, 0)));
}

static void *block_of_another;
static void *first_call_is_realloc(void *size) {
    return hide(realloc(block_of_another, (size_t)size));
}

/* A thread that has no memory of its own yet gives a block all the bytes that may be used of it, or a few less. */
static void realloc_by_new_threads(void) {
    enum { EACH = 150 };
    for (size_t size = 100; size < 20000; size += size / 9) {
        unsigned char *blocks[EACH];
        for (int i = 0; i < EACH; i++) fill(blocks[i] = hide(malloc(size)), size, i);
        for (int less = 0; less < 64; less += 16) {
            size_t wished = malloc_usable_size(blocks[EACH - 1]) - less;
            if (wished < size) break;
            block_of_another = blocks[EACH - 1];
            pthread_t thread;
            CHECK(!pthread_create(&thread, NULL, first_call_is_realloc, (void *)wished));
            CHECK(!pthread_join(thread, (void **)&blocks[EACH - 1]));
            CHECK(holds(blocks[EACH - 1], size, EACH - 1));
        }
        for (int i = 0; i < EACH; i++) free(blocks[i]);
    }
}

/* Whether a child ends by a signal that gives the pointer to realloc, or with no bytes to free. */
static int ends_program(char *pointer, size_t size) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (!child) {
        close(2);
        if (size) {
            hide(realloc(pointer, size));
        } else {
            free(pointer);
        }
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status);
}

/* Blocks of 16 to 256 KiB come and go; to free one once more is seen, whatever lies there now: by a child, each. */
static void stale_frees_are_seen(void) {
    enum { LIVE = 60, ROUNDS = 1200, TESTED = 150 };
    char *live[LIVE] = {0}, *stale[ROUNDS];
    int count = 0;
    unsigned long random = 88172645463325252UL;
    for (int round = 0; round < ROUNDS; round++) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        int i = random % LIVE;
        if (live[i]) {
            free(stale[count++] = live[i]);
            live[i] = NULL;
        } else {
            CHECK((live[i] = hide(malloc(17000 + random / LIVE % 245000))));
        }
    }
    for (int tested = 0; tested < TESTED; tested++) {
        char *block = stale[count - 1 - tested];
        int is_live = 0;
        for (int i = 0; i < LIVE; i++) is_live |= live[i] == block;
        if (is_live) continue;
        CHECK(ends_program(block, 0));
    }
    for (int i = 0; i < LIVE; i++) free(live[i]);
}

/* Pointers that are no block, given to realloc with sizes that a block there has: it is not to be said to stay. */
static void bad_reallocs_are_seen(void) {
    size_t sizes[] = {64, 1000, 100000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t size = sizes[i];
        /* Until longer blocks are kept by the thread. */
        for (int round = 0; round < 40; round++) free(hide(malloc(size)));
        char *block = hide(malloc(size)), *freed = hide(malloc(size));
        CHECK(block && freed);
        free(freed);
        CHECK(!ends_program(block, size));
        CHECK(ends_program(freed, size));
        CHECK(ends_program(block + 16, size * 7 / 8));
        CHECK(ends_program(block + 4, size * 7 / 8));
        free(block);
    }
}

/* A block that grows and shrinks in small steps, with others in its way. */
static void realloc_in_steps(void) {
    unsigned char *block = NULL, *others[64] = {0};
    for (size_t size = 1; size < 3000000; size += size / 3 + 1) {
        block = hide(realloc(block, size));
        fill(block, size, 5);
        int at = (int)(size % 64);
        free(others[at]);
        others[at] = hide(malloc(size));
        others[at][0] = 1;
    }
    for (size_t size = 3000000; size > 0; size /= 2) {
        if (size < 2900000) block = hide(realloc(block, size));
        CHECK(holds(block, size < 1000 ? size : 1000, 5));
    }
    free(block);
    for (int i = 0; i < 64; i++) free(others[i]);
}

static void calloc_overflow_and_zeroes(void) {
    volatile size_t half = (size_t)1 << 33;
    errno = 0;
    CHECK(!hide(calloc(half, half)) && errno == ENOMEM);
    errno = 0;
    CHECK(!hide(calloc(SIZE_MAX, 2)) && errno == ENOMEM);
    errno = 0;
    CHECK(!hide(reallocarray(NULL, half, half)) && errno == ENOMEM);
    /* Recycled memory was written to. */
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < SIZES; i++) {
            unsigned char *dirty[8];
            for (int j = 0; j < 8; j++) memset(dirty[j] = hide(malloc(sizes[i])), 0xff, sizes[i]);
            for (int j = 0; j < 8; j++) free(dirty[j]);
            for (int j = 0; j < 8; j++) {
                dirty[j] = hide(calloc(sizes[i], 1));
                for (size_t at = 0; at < sizes[i]; at++) CHECK(dirty[j][at] == 0);
            }
            for (int j = 0; j < 8; j++) free(dirty[j]);
        }
}

static int by_address(const void *left, const void *right) {
    uintptr_t a = *(const uintptr_t *)left, b = *(const uintptr_t *)right;
    return (a > b) - (a < b);
}
static void nothing_is_unique(void) {
    static void *blocks[1000];
    for (int i = 0; i < 1000; i++) CHECK(blocks[i] = hide(malloc(0)));
    qsort(blocks, 1000, sizeof *blocks, by_address);
    for (int i = 1; i < 1000; i++) CHECK(blocks[i] != blocks[i - 1]);
    for (int i = 0; i < 1000; i++) free(blocks[i]);
    void *empty = hide(calloc(0, 5));
    CHECK(empty);
    free(empty);
}

static void beyond_ptrdiff_max(void) {
    volatile size_t limit = (size_t)PTRDIFF_MAX;
    for (size_t more = 1; more < 100000; more = more * 7 + 1) {
        size_t huge = limit + more;
        errno = 0;
        CHECK(!hide(malloc(huge)) && errno == ENOMEM);
        errno = 0;
        CHECK(!hide(calloc(1, huge)) && errno == ENOMEM);
        errno = 0;
        CHECK(!hide(memalign(64, huge)) && errno == ENOMEM);
        errno = 0;
        CHECK(!hide(valloc(huge)) && errno == ENOMEM);
        errno = 0;
        CHECK(!hide(pvalloc(SIZE_MAX - more)) && errno == ENOMEM);
        void *unused = NULL, *block = hide(malloc(10));
        CHECK(posix_memalign(&unused, 64, huge) == ENOMEM && !unused);
        errno = 0;
        CHECK(!hide(realloc(block, huge)) && errno == ENOMEM);
        free(block);
    }
    /* What no address space has. */
    errno = 0;
    CHECK(!hide(malloc((size_t)1 << 47)) && errno == ENOMEM);
    errno = 0;
    CHECK(!hide(memalign((size_t)1 << 46, (size_t)1 << 46)) && errno == ENOMEM);
}

static void alignments(void) {
    for (size_t alignment = 1; alignment <= (size_t)64 << 20; alignment *= 2)
        for (int i = 0; i < SIZES; i++) {
            size_t size = sizes[i];
            if (alignment > 65536 && i % 5) continue;
            unsigned char *first = hide(aligned_alloc(alignment, size)), *second = hide(memalign(alignment, size));
            CHECK(first && second && (uintptr_t)first % alignment == 0 && (uintptr_t)second % alignment == 0);
            first[0] = first[size - 1] = second[0] = second[size - 1] = 1;
            CHECK(malloc_usable_size(first) >= size);
            free(first);
            void *third = NULL;
            int result = posix_memalign(&third, alignment, size);
            CHECK(alignment < sizeof(void *) ? result == EINVAL : result == 0 && (uintptr_t)third % alignment == 0);
            free(third);
            free(second);
        }
    void *unused = &unused;
    CHECK(posix_memalign(&unused, 0, 8) == EINVAL && posix_memalign(&unused, 24, 8) == EINVAL);
    CHECK(unused == &unused);
}

static void errno_is_kept(void) {
    for (int round = 0; round < 40; round++)
        for (int i = 0; i < SIZES; i++) {
            void *blocks[4];
            for (int j = 0; j < 4; j++) blocks[j] = hide(malloc(sizes[i]));
            errno = 5000 + i;
            for (int j = 0; j < 4; j++) free(blocks[j]);
            CHECK(errno == 5000 + i);
            void *good = NULL;
            CHECK(posix_memalign(&good, 64, sizes[i]) == 0 && errno == 5000 + i);
            free(good);
        }
    /* Beyond every cache: mappings go back. */
    void *huge = hide(malloc(300 << 20));
    errno = 42;
    free(huge);
    CHECK(errno == 42);
}

/* The limit is lowered while the process runs, below what any allocator has reserved, lifted, and
 * memory is there again. */
static void address_space_limit(void) {
    static unsigned char *blocks[4096];
    free(hide(malloc(100)));
    for (int round = 0; round < 3; round++) {
        struct rlimit limit = {(rlim_t)1 << 30, RLIM_INFINITY};
        CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
        int count = 0;
        errno = 0;
        while (count < 4096 && (blocks[count] = hide(malloc(1 << 20)))) blocks[count++][0] = 1;
        CHECK(errno == ENOMEM);
        /* Most of what the limit allows is to be had. */
        CHECK(count > 500 && count < 1024);
        CHECK(!hide(calloc(1, 1 << 29)) && !hide(memalign(1 << 20, 1 << 29)));
        CHECK(!hide(realloc(blocks[0], 1 << 29)) && blocks[0][0] == 1);
        for (int i = 0; i < count; i += 2) free(blocks[i]);
        for (int i = 0; i < count / 2 - 8; i++) {
            unsigned char *again = hide(malloc(1 << 20));
            CHECK(again);
            again[0] = 2;
            blocks[2 * i] = again;
        }
        for (int i = count / 2 - 8; i < (count + 1) / 2; i++) blocks[2 * i] = NULL;
        limit.rlim_cur = RLIM_INFINITY;
        CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
        void *large = hide(malloc((size_t)2 << 30));
        CHECK(large);
        free(large);
        for (int i = 0; i < count; i++) free(blocks[i]);
    }
}

/* Small blocks only, until there are none. */
static void address_space_limit_small(void) {
    struct rlimit limit = {(rlim_t)700 << 20, RLIM_INFINITY};
    void **last = NULL;
    free(hide(malloc(100)));
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    long count = 0;
    for (;;) {
        errno = 0;
        void **block = hide(malloc(count % 3 ? 200 : 2000));
        if (!block) break;
        *block = last;
        last = block;
        count++;
    }
    CHECK(errno == ENOMEM && count > 100000);
    while (last) {
        void **before = *last;
        free(last);
        last = before;
    }
    limit.rlim_cur = RLIM_INFINITY;
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    for (long i = 0; i < count; i++) CHECK(last = hide(malloc(200)));
}

static volatile int stop;

static void *allocate_all_the_time(void *argument) {
    void *blocks[100] = {0};
    unsigned seed = (unsigned)(uintptr_t)argument;
    while (!stop) {
        seed = seed * 1103515245 + 12345;
        int at = seed >> 16 & 63;
        free(blocks[at]);
        blocks[at] = hide(malloc(seed >> 8 & 4095));
        if (seed % 512 == 0) {
            free(blocks[at]);
            blocks[at] = hide(malloc(300000));
        }
    }
    for (int i = 0; i < 100; i++) free(blocks[i]);
    return NULL;
}

/* 300 forks while three threads allocate: the child allocates and frees at once, blocks of the parent's
 * among them, and forks again. */
static void forks_beside_threads(void) {
    pthread_t threads[3];
    for (uintptr_t i = 0; i < 3; i++) CHECK(!pthread_create(&threads[i], NULL, allocate_all_the_time, (void *)(i + 1)));
    for (int forks = 0; forks < 300; forks++) {
        unsigned char *from_parent = hide(malloc(500)), *large = hide(malloc(500000));
        fill(from_parent, 500, forks);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            alarm(60);
            CHECK(holds(from_parent, 500, forks));
            free(from_parent);
            free(large);
            for (int i = 0; i < SIZES; i++) free(hide(malloc(sizes[i] % 300000)));
            if (forks % 50 == 0) {
                pid_t grandchild = fork();
                if (grandchild == 0) {
                    free(hide(malloc(100)));
                    _exit(0);
                }
                int status;
                CHECK(waitpid(grandchild, &status, 0) == grandchild && status == 0);
            }
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        free(from_parent);
        free(large);
    }
    stop = 1;
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
}

/* 64 threads at a time, whose blocks live on and are ended by the next ones. */
static pthread_mutex_t handing_over = PTHREAD_MUTEX_INITIALIZER;
static unsigned char *handed[64];
static void *inherit(void *argument) {
    int at = (int)(uintptr_t)argument;
    unsigned char *block = hide(malloc(300 + at));
    fill(block, 300 + at, at);
    pthread_mutex_lock(&handing_over);
    unsigned char *old = handed[at];
    handed[at] = block;
    pthread_mutex_unlock(&handing_over);
    if (old) CHECK(holds(old, 300 + at, at));
    free(old);
    return NULL;
}
static void blocks_outlive_threads(void) {
    for (int round = 0; round < 30; round++) {
        pthread_t threads[64];
        for (uintptr_t i = 0; i < 64; i++) CHECK(!pthread_create(&threads[i], NULL, inherit, (void *)i));
        for (int i = 0; i < 64; i++) pthread_join(threads[i], NULL);
    }
    for (int i = 0; i < 64; i++) free(handed[i]);
}

/* Signals interrupt an allocating thread; the handler does what handlers may. */
static volatile sig_atomic_t signals;
static void on_signal(int number) {
    (void)number;
    signals++;
}
static void signals_interrupt(void) {
    pthread_t thread;
    struct sigaction action = {.sa_handler = on_signal};
    CHECK(!sigaction(SIGUSR1, &action, NULL));
    CHECK(!pthread_create(&thread, NULL, allocate_all_the_time, (void *)7));
    for (int i = 0; i < 3000; i++) {
        pthread_kill(thread, SIGUSR1);
        free(hide(malloc(100)));
        if (i % 100 == 0) usleep(100);
    }
    stop = 1;
    pthread_join(thread, NULL);
    CHECK(signals > 0);
}

/* A handler that leaves an allocating thread's code for good, as longjmp and pthread_cancel do, is not
 * survivable by contract; a thread that is cancelled where it may be, is. */
static void *cancelled(void *argument) {
    for (;;) {
        free(hide(malloc(1000)));
        pthread_testcancel();
    }
    return argument;
}
static void threads_are_cancelled(void) {
    for (int i = 0; i < 200; i++) {
        pthread_t thread;
        CHECK(!pthread_create(&thread, NULL, cancelled, NULL));
        CHECK(!pthread_cancel(thread));
        pthread_join(thread, NULL);
    }
}

static void glibc_extensions(void) {
    CHECK(mallopt(M_TRIM_THRESHOLD, 1 << 20) == 1);
    void *blocks[100];
    for (int i = 0; i < 100; i++) memset(blocks[i] = hide(malloc(100000)), 1, 100000);
    struct mallinfo2 info = mallinfo2();
    CHECK(info.uordblks + info.hblkhd >= 10000000);
    for (int i = 0; i < 100; i++) free(blocks[i]);
    struct mallinfo2 after = mallinfo2();
    CHECK(after.uordblks + after.hblkhd + 9000000 < info.uordblks + info.hblkhd);
    malloc_trim(0);
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    CHECK(malloc_info(0, stream) == 0);
    CHECK(malloc_info(1, stream) != 0);
    fclose(stream);
    CHECK(!strncmp(text, "<malloc version=", 16) && strstr(text, "</malloc>"));
    free(text);
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
#define CASE(name) {#name, name}
    CASE(realloc_any_to_any), CASE(realloc_to_same_and_nothing), CASE(realloc_in_steps),
    CASE(realloc_by_new_threads), CASE(stale_frees_are_seen),
    CASE(bad_reallocs_are_seen),
    CASE(calloc_overflow_and_zeroes), CASE(nothing_is_unique), CASE(beyond_ptrdiff_max),
    CASE(alignments), CASE(errno_is_kept), CASE(address_space_limit),
    CASE(address_space_limit_small), CASE(forks_beside_threads), CASE(blocks_outlive_threads),
    CASE(signals_interrupt), CASE(threads_are_cancelled), CASE(glibc_extensions),
};

int main(int count, char **arguments) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (count < 2) {
            puts(cases[i].name);
        } else if (!strcmp(arguments[1], cases[i].name)) {
            cases[i].run();
            printf("survived %s\n", cases[i].name);
        }
    }
    return 0;
}
