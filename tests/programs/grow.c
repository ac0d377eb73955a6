/* Prints "right" if what realloc keeps is kept: two processes at once, each with 40 MB, one of which
 * outlives its parent. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifdef OWN_MALLOC
/* As a program does that links its own allocator. */
static char arena[256 << 20];
static size_t used;
void *malloc(size_t size) {
    size_t at = used;
    used += (size + 15) & ~(size_t)15;
    return used <= sizeof arena ? arena + at : 0;
}
void free(void *block) { (void)block; }
void *calloc(size_t n, size_t size) { return malloc(n * size); }
void *realloc(void *old, size_t size) {
    void *block = malloc(size);
    if (old && block) memmove(block, old, size);
    return block;
}
#endif

#ifdef OWN_REALLOC
/* Only this one: everything else is the C library's. */
void *realloc(void *old, size_t size) {
    void *block = malloc(size);
    if (old && block) memcpy(block, old, size / 2);
    return block;
}
#endif

static int wrong;

static void grow_a_string(void) {
    char *text = 0;
    size_t length = 0;
    for (int n = 0; n < 20000; n++) {
        text = realloc(text, length + 2);
        text[length++] = (char)('a' + n % 26);
        text[length] = 0;
    }
    for (size_t i = 0; i < length; i++) wrong |= text[i] != (char)('a' + i % 26);
    free(text);
}

static void hold_memory(void) {
    char *blocks[40];
    for (int i = 0; i < 40; i++) {
        blocks[i] = malloc(1 << 20);
        memset(blocks[i], i + 1, 1 << 20);
    }
    struct timespec pause = {0, 300 * 1000 * 1000};
    nanosleep(&pause, 0);
    for (int i = 0; i < 40; i++) free(blocks[i]);
}

int main(void) {
    for (int n = 0; n < 2000; n++) free(malloc(n));
    if (fork() == 0) {
        setsid();
        hold_memory();
        hold_memory();
        return 0;
    }
    grow_a_string();
    hold_memory();
    puts(wrong ? "wrong" : "right");
    return 0;
}
