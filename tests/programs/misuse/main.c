/* One mistake with allocated memory, chosen by its name.
 *
 *   misuse            prints the names, each after its group's
 *   misuse NAME       makes it; "nothing" makes none
 *
 * An allocator that notices ends the program. One that does not lets it go on, and the last line says
 * what came of it:
 *
 *   made              the mistake was made, and nobody minded (then follows one of the others)
 *   harmless          every block is still its owner's alone
 *   corrupted: ...    memory has two owners, or one that never was the allocator's
 *   refused           null, and no memory: as it should be
 *   granted: ...      a block for a size that cannot be
 *   skipped: ...      the mistake cannot be made here
 */
#define _GNU_SOURCE
#include "misuse.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void say(const char *line) {
    char text[128];
    int length = snprintf(text, sizeof text, "%s\n", line);
    if (write(STDOUT_FILENO, text, (size_t)length) != length) _exit(3);
}

char *take(size_t size) {
    char *block = hide(malloc(size));
    if (!block) skip("no memory");
    memset(block, 1, size);
    return block;
}
void drop(void *block) { free(hide(block)); }

static void *run_drop(void *block) {
    drop(block);
    return NULL;
}
void drop_in_thread(void *block) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, run_drop, block)) skip("no thread");
    pthread_join(thread, NULL);
}

void refused(void) {
    say("refused");
    _exit(0);
}
void granted(const char *what) {
    say(what);
    _exit(0);
}
void skip(const char *why) {
    char text[100];
    snprintf(text, sizeof text, "skipped: %s", why);
    say(text);
    _exit(0);
}

void *function(const char *name) {
    static void *library;
    if (!library) library = dlopen("libstdc++.so.6", RTLD_NOW | RTLD_GLOBAL);
    return dlsym(RTLD_DEFAULT, name);
}

/* Who holds what. */
struct range {
    uintptr_t start, end;
    unsigned char byte;
    int is_block;
};
enum { RANGES = 4096 };
static struct range ranges[RANGES];
static size_t range_count;

static void hold(const void *start, size_t bytes, unsigned char byte, int is_block) {
    if (range_count == RANGES) skip("too many ranges");
    ranges[range_count++] = (struct range){(uintptr_t)start, (uintptr_t)start + bytes, byte, is_block};
}
void forbid(const void *start, size_t bytes) {
    for (size_t i = 0; i < range_count; i++) {
        if (ranges[i].start == (uintptr_t)start && !ranges[i].is_block) return;
    }
    hold(start, bytes, 0, 0);
}

/* Where the mistake itself has written. */
static struct range written[256];
static size_t written_count;

void begin_write(const void *start, size_t bytes) {
    if (written_count == sizeof written / sizeof *written) skip("too many writes");
    written[written_count++] = (struct range){(uintptr_t)start, (uintptr_t)start + bytes, 0, 0};
    say("writing");
}
void end_write(void) { say("written"); }

static int was_written(uintptr_t address) {
    for (size_t i = 0; i < written_count; i++) {
        if (address >= written[i].start && address < written[i].end) return 1;
    }
    return 0;
}

static const size_t sizes[] = {16, 24, 40, 64, 72, 88, 128, 136, 160, 200, 272, 512, 1000, 3000, 10000};
enum { SIZES = sizeof sizes / sizeof *sizes };

/* Takes blocks, and fills each with a byte of its own. */
void take_some(size_t size, int count) {
    for (int i = 0; i < count; i++) {
        char *block = hide(malloc(size));
        if (!block) granted("corrupted: there is no memory any more");
        unsigned char byte = (unsigned char)(range_count % 251 + 1);
        memset(block, byte, size);
        hold(block, size, byte, 1);
    }
}
static void take_all_sizes(int count) {
    for (int i = 0; i < SIZES; i++) take_some(sizes[i], count);
    take_some(40000, count / 8 + 1);
    take_some(100000, count / 8 + 1);
    take_some(1000000, 2);
}

/* Whether all is whose it was. */
static void look(void) {
    /* Sorted in place: the C library's qsort may ask for memory. */
    for (size_t gap = range_count / 2; gap > 0; gap /= 2) {
        for (size_t i = gap; i < range_count; i++) {
            struct range moved = ranges[i];
            size_t j = i;
            for (; j >= gap && ranges[j - gap].start > moved.start; j -= gap) {
                ranges[j] = ranges[j - gap];
            }
            ranges[j] = moved;
        }
    }
    for (size_t i = 0; i + 1 < range_count; i++) {
        if (ranges[i].end > ranges[i + 1].start) granted("corrupted: two owners of one block");
    }
    for (size_t i = 0; i < range_count; i++) {
        if (!ranges[i].is_block) continue;
        const unsigned char *bytes = (const unsigned char *)ranges[i].start;
        for (size_t at = 0; at < ranges[i].end - ranges[i].start; at++) {
            if (bytes[at] != ranges[i].byte && !was_written(ranges[i].start + at)) {
                granted("corrupted: a block that nobody wrote into has changed");
            }
        }
    }
}

/* Gives every block back. */
static void give_all(void) {
    size_t kept = 0;
    for (size_t i = 0; i < range_count; i++) {
        if (ranges[i].is_block) {
            drop((void *)ranges[i].start);
        } else {
            ranges[kept++] = ranges[i];
        }
    }
    range_count = kept;
    written_count = 0;
}

static void *take_and_look_in_thread(void *unused) {
    take_all_sizes(20);
    look();
    return unused;
}

/* Uses memory of all sizes, in two threads, and looks whether it is whose it should be. */
static void go_on(void) {
    take_all_sizes(60);
    look();
    give_all();
    take_all_sizes(60);
    look();
    pthread_t thread;
    if (pthread_create(&thread, NULL, take_and_look_in_thread, NULL)) granted("corrupted: no thread");
    pthread_join(thread, NULL);
    give_all();
}

static void nothing(void) {}

int main(int count, char **arguments) {
    static const struct mistake none[] = {{"nothing", nothing}, {NULL, NULL}};
    const struct {
        const char *name;
        const struct mistake *mistakes;
    } groups[] = {{"none", none},
                  {"freed", freed_mistakes},
                  {"pointers", pointer_mistakes},
                  {"foreign", foreign_mistakes},
                  {"writes", write_mistakes},
                  {"sizes", size_mistakes}};
    for (size_t group = 0; group < sizeof groups / sizeof *groups; group++) {
        for (const struct mistake *one = groups[group].mistakes; one->name; one++) {
            if (count < 2) {
                if (group > 0) printf("%s %s\n", groups[group].name, one->name);
            } else if (!strcmp(arguments[1], one->name)) {
                take_all_sizes(4);
                one->make();
                say("made");
                go_on();
                say("harmless");
                return 0;
            }
        }
    }
    return count < 2 ? 0 : 2;
}
