/* Lets the kernel forget its children: what they used is then in nobody's sum. Two of them use 0.3 s
 * each; prints "right". */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
#ifdef NO_WAIT
    action.sa_handler = SIG_DFL;
    action.sa_flags = SA_NOCLDWAIT;
#else
    action.sa_handler = SIG_IGN;
#endif
    sigaction(SIGCHLD, &action, 0);
    for (int child = 0; child < 2; child++) {
        if (fork() == 0) {
            while (clock() < 3 * CLOCKS_PER_SEC / 10) {}
            _exit(0);
        }
    }
    while (wait(0) > 0) {}
    puts("right");
    return 0;
}
