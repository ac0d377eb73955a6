/* Writes to MIB mebibytes of memory, in steps with pauses if asked for, prints "right" and ends. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef STEP_MIB
#define STEP_MIB MIB
#endif
#ifndef PAUSE_MS
#define PAUSE_MS 0
#endif

#ifdef OWNER
void *owner_work(size_t size);
#endif

int main(void) {
    struct timespec pause = {0, PAUSE_MS * 1000000L};
    for (size_t done = 0; done < MIB; done += STEP_MIB) {
        size_t step = (size_t)STEP_MIB << 20;
        char *block = malloc(step);
        if (!block) return 1;
        memset(block, 1, step);
        if (PAUSE_MS) nanosleep(&pause, 0);
    }
#ifdef OWNER
    if (!owner_work(100)) return 2;
#endif
    puts("right");
    return 0;
}
