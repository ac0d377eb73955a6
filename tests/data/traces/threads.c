/* Several threads that allocate, reallocate and free each other's blocks; a child process at the end. */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
static void *worker(void *given) {
  char *grown = NULL;
  for (int n = 1; n <= 8; n++) grown = realloc(grown, (size_t)n * 1000);
  free(given);
  return grown;
}
int main(void) {
  pthread_t threads[3];
  for (int n = 0; n < 3; n++) pthread_create(&threads[n], NULL, worker, malloc(100 + n));
  for (int n = 0; n < 3; n++) {
    void *grown;
    pthread_join(threads[n], &grown);
    free(grown);
  }
  printf("no newline yet");
  fflush(stdout);
  fprintf(stderr, "program output without a line end");
  free(calloc(3, 7));
  puts("");
  return 0;
}
