// What the recorder's tests record: the first argument says which scene is played. No scene uses stdio,
// so that every event is one of the scene's own.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static void check(int holds, const char *what) {
  if (!holds) {
    (void)!write(2, what, strlen(what));
    (void)!write(2, "\n", 1);
    abort();
  }
}
#define CHECK(x) check(x, #x)

static void say(const char *text) { CHECK(write(1, text, strlen(text)) == (ssize_t)strlen(text)); }

static void say_number(unsigned long number) {
  char text[24], *at = text + sizeof text;
  *--at = 0;
  *--at = '\n';
  do *--at = '0' + number % 10; while (number /= 10);
  say(at);
}

// The compiler must not leave out a pair of malloc and free.
static void *kept(void *block) {
  __asm__ volatile("" : "+r"(block) : : "memory");
  return block;
}

static void pairs(long count, size_t size) {
  for (long i = 0; i < count; i++) free(kept(malloc(size)));
}

// --- every function, once ---------------------------------------------------------------------------

static void api(void) {
  void *block[16];
  int n = 0;
  block[n++] = kept(malloc(101));
  block[n++] = kept(malloc(0));
  block[n++] = kept(malloc(100000));
  block[n++] = kept(calloc(7, 15));
  block[n++] = kept(calloc(70000, 2));
  block[n++] = kept(realloc(NULL, 107));
  block[n - 1] = kept(realloc(block[n - 1], 300000));
  block[n++] = kept(reallocarray(NULL, 9, 12));
  void *aligned = NULL;
  CHECK(posix_memalign(&aligned, 64, 109) == 0);
  block[n++] = aligned;
  block[n++] = kept(memalign(128, 110));
  block[n++] = kept(aligned_alloc(256, 512));
  block[n++] = kept(valloc(112));
  block[n++] = kept(pvalloc(113));
  for (int i = 0; i < n; i++) CHECK(block[i] != NULL);
  CHECK((uintptr_t)block[7] % 64 == 0 && (uintptr_t)block[8] % 128 == 0);
  CHECK(malloc_usable_size(block[0]) >= 101);
  CHECK(malloc_usable_size(NULL) == 0);
  for (int i = 0; i < n; i++) free(block[i]);
  free(NULL);
}

// --- calls that fail, and errno ---------------------------------------------------------------------

static void failures(void) {
  volatile size_t huge = SIZE_MAX / 2 + 1, many = SIZE_MAX / 4;
  errno = 0;
  CHECK(kept(malloc(huge)) == NULL && errno == ENOMEM);
  errno = 0;
  CHECK(kept(calloc(many, 8)) == NULL && errno == ENOMEM);
  void *block = kept(malloc(40));
  errno = 0;
  CHECK(kept(realloc(block, huge)) == NULL && errno == ENOMEM);
  errno = 0;
  CHECK(kept(reallocarray(block, many, 8)) == NULL && errno == ENOMEM);
  void *aligned = NULL;
  errno = 7;
  CHECK(posix_memalign(&aligned, 3, 8) == EINVAL && errno == 7);
  errno = 77;
  free(block);
  CHECK(errno == 77);
  // Over many chunks: the slow way keeps errno too.
  for (int i = 0; i < 100000; i++) {
    errno = 78;
    void *small = kept(malloc(24));
    CHECK(errno == 78);
    free(small);
    CHECK(errno == 78);
  }
}

// --- threads ----------------------------------------------------------------------------------------

static void *stress_thread(void *argument) {
  long rounds = (long)argument;
  void *held[8] = {0};
  for (long i = 0; i < rounds; i++) {
    int at = i % 8;
    free(held[at]);
    switch (i % 4) {
    case 0: held[at] = malloc(16 + i % 500); break;
    case 1: held[at] = calloc(1 + i % 9, 24); break;
    case 2: held[at] = realloc(malloc(8), 64 + i % 3000); break;
    case 3: CHECK(posix_memalign(&held[at], 64, 64 + i % 100) == 0); break;
    }
    CHECK(held[at] != NULL);
    *(volatile char *)held[at] = 1;
  }
  for (int i = 0; i < 8; i++) free(held[i]);
  return NULL;
}

static int c11_thread(void *argument) {
  stress_thread(argument);
  return 0;
}

static void stress(int threads, long rounds) {
  pthread_t thread[64];
  thrd_t c11;
  for (int i = 0; i < threads; i++)
    CHECK(pthread_create(&thread[i], NULL, stress_thread, (void *)rounds) == 0);
  CHECK(thrd_create(&c11, c11_thread, (void *)rounds) == thrd_success);
  for (int i = 0; i < threads; i++) pthread_join(thread[i], NULL);
  thrd_join(c11, NULL);
}

#define SLOTS 64
static _Atomic(void *) slot[SLOTS];

static void *consumer(void *argument) {
  long count = (long)argument;
  for (long i = 0; i < count; i++) {
    void *block;
    while (!(block = atomic_exchange(&slot[i % SLOTS], NULL))) sched_yield();
    free(block);
  }
  return NULL;
}

static void pipeline(long count) {
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, consumer, (void *)count) == 0);
  for (long i = 0; i < count; i++) {
    void *block = malloc(32 + i % 3 * 16);
    while (atomic_load(&slot[i % SLOTS])) sched_yield();
    atomic_store(&slot[i % SLOTS], block);
  }
  pthread_join(thread, NULL);
}

static pthread_key_t key;
static void key_destructor(void *value) { free(value); pairs(1, 48); }

static void *short_thread(void *argument) {
  pairs(3, 40);
  if (argument) pthread_setspecific(key, malloc(56));
  return NULL;
}

static void short_threads(int count, int at_once) {
  CHECK(pthread_key_create(&key, key_destructor) == 0);
  pthread_t thread[64];
  for (int made = 0; made < count; made += at_once) {
    for (int i = 0; i < at_once; i++)
      CHECK(pthread_create(&thread[i], NULL, short_thread, (void *)1) == 0);
    for (int i = 0; i < at_once; i++) pthread_join(thread[i], NULL);
  }
}

static void *sleeper(void *barrier) {
  pairs(1, 72);
  pthread_barrier_wait(barrier);
  pairs(1, 72);
  return NULL;
}

static void all_at_once(int count) {
  pthread_barrier_t barrier;
  pthread_attr_t attributes;
  pthread_t *thread = malloc(count * sizeof *thread);
  pthread_barrier_init(&barrier, NULL, count + 1);
  pthread_attr_init(&attributes);
  // As small as it may be: the recorder must do with it.
  pthread_attr_setstacksize(&attributes, 16384 + 4096);
  for (int i = 0; i < count; i++)
    CHECK(pthread_create(&thread[i], &attributes, sleeper, &barrier) == 0);
  pthread_barrier_wait(&barrier);
  for (int i = 0; i < count; i++) pthread_join(thread[i], NULL);
  free(thread);
}

// A thread that the C library makes for itself.
static atomic_int timer_ran;
static void on_timer(union sigval value) {
  (void)value;
  pairs(100, 1088);
  atomic_store(&timer_ran, 1);
}

static void timer_thread(void) {
  struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_timer};
  struct itimerspec soon = {.it_value = {.tv_nsec = 1000}};
  timer_t timer;
  CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
  CHECK(timer_settime(timer, 0, &soon, NULL) == 0);
  while (!atomic_load(&timer_ran)) pairs(10, 104);
}

// --- processes --------------------------------------------------------------------------------------

static void await(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0) CHECK(errno == EINTR);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void forks(void) {
  void *before = kept(malloc(201));
  pid_t child = fork();
  if (child == 0) {
    free(before);
    pairs(3000, 202);
    exit(0);
  }
  await(child);
  pairs(50, 203);
  free(before);
}

static atomic_int is_over;
static void *busy_thread(void *argument) {
  (void)argument;
  while (!atomic_load(&is_over)) pairs(10, 64);
  return NULL;
}

static void *child_thread(void *argument) {
  (void)argument;
  pairs(100, 304);
  return NULL;
}

static void forks_beside_threads(int count) {
  pthread_t thread[4], other;
  for (int i = 0; i < 4; i++) CHECK(pthread_create(&thread[i], NULL, busy_thread, NULL) == 0);
  for (int i = 0; i < count; i++) {
    pid_t child = fork();
    if (child == 0) {
      pairs(1000, 301);
      CHECK(pthread_create(&other, NULL, child_thread, NULL) == 0);
      pthread_join(other, NULL);
      _exit(0);
    }
    await(child);
  }
  atomic_store(&is_over, 1);
  for (int i = 0; i < 4; i++) pthread_join(thread[i], NULL);
}

static void raw_clone(void) {
  pairs(5, 211);
  long child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  if (child == 0) {
    pairs(3000, 212);
    _exit(0);
  }
  await(child);
  pairs(50, 213);
}

static void executes(const char *program) {
  pairs(10, 221);
  char *const arguments[] = {(char *)program, "pairs", "20", "222", NULL};
  pid_t child = vfork();
  if (child == 0) {
    execv(program, arguments);
    _exit(1);
  }
  await(child);
  pairs(10, 223);
  execv(program, arguments);
  abort();
}

// --- files and folders ------------------------------------------------------------------------------

static void closes_everything(void) {
  pairs(10, 64);
  for (int file = 3; file < 70000; file++) close(file);
  // The numbers now belong to a file of the program's.
  int own = open("own", O_RDWR | O_CREAT | O_EXCL, 0600);
  CHECK(own >= 0);
  for (int file = own + 1; file < 1024; file++) dup2(own, file);
  CHECK(chdir("/") == 0);
  pairs(200000, 64);
  CHECK(lseek(own, 0, SEEK_END) == 0);
}

static void folder_vanishes(const char *folder, int is_closed) {
  pairs(10, 64);
  char command[512] = "rm -r ";
  strcat(command, folder);
  pid_t child = fork();
  if (child == 0) {
    unsetenv("LD_PRELOAD");
    execl("/bin/sh", "sh", "-c", command, (char *)NULL);
    _exit(1);
  }
  await(child);
  if (is_closed) for (int file = 3; file < 1100; file++) close(file);
  pairs(200000, 64);
  say("went on\n");
}

// --- signals ----------------------------------------------------------------------------------------

static void switched(void) {
  pairs(100, 401);
  kill(getpid(), SIGUSR2);
  void *across = kept(malloc(402));
  pairs(99, 402);
  kill(getpid(), SIGUSR2);
  free(across);
  pairs(100, 403);
  kill(getpid(), SIGUSR2);
  pairs(100, 404);
}

static atomic_long handled;
static sigjmp_buf back;
static volatile sig_atomic_t may_jump;

static void on_alarm(int signal) {
  (void)signal;
  pairs(1, 24);
  atomic_fetch_add(&handled, 1);
  if (may_jump && atomic_load(&handled) % 7 == 0) siglongjmp(back, 1);
}

// Under an allocator that may be interrupted.
static void interrupted(long least, int jumps) {
  struct sigaction action = {.sa_handler = on_alarm};
  struct itimerval often = {.it_interval = {.tv_usec = 100}, .it_value = {.tv_usec = 100}};
  struct itimerval never = {0};
  sigaction(SIGALRM, &action, NULL);
  volatile long done = 0;
  setitimer(ITIMER_REAL, &often, NULL);
  sigsetjmp(back, 1);
  may_jump = jumps;
  while (atomic_load(&handled) < least) {
    pairs(1, 40);
    done++;
  }
  may_jump = 0;
  setitimer(ITIMER_REAL, &never, NULL);
  say_number(done);
  say_number(atomic_load(&handled));
}

// --- beginning and end ------------------------------------------------------------------------------

static int is_life;
__attribute__((constructor)) static void before_main(int count, char **arguments) {
  is_life = count > 1 && strcmp(arguments[1], "life") == 0;
  if (is_life) pairs(1, 501);
}
__attribute__((destructor)) static void after_main(void) {
  if (is_life) pairs(1, 504);
}
static void at_exit(void) { pairs(1, 503); }

static void life(void) {
  pairs(1, 502);
  atexit(at_exit);
  CHECK(dlsym(RTLD_DEFAULT, "no such function") == NULL);
  dlerror();
}

int main(int count, char **argument) {
  CHECK(count >= 2);
  const char *scene = argument[1];
  long first = count > 2 ? atol(argument[2]) : 0, second = count > 3 ? atol(argument[3]) : 0;
#define SCENE(name) else if (strcmp(scene, name) == 0)
  if (strcmp(scene, "pairs") == 0) pairs(first, second);
  SCENE("api") api();
  SCENE("failures") failures();
  SCENE("stress") stress(first, second);
  SCENE("pipeline") pipeline(first);
  SCENE("short_threads") short_threads(first, second);
  SCENE("all_at_once") all_at_once(first);
  SCENE("timer_thread") timer_thread();
  SCENE("forks") forks();
  SCENE("forks_beside_threads") forks_beside_threads(first);
  SCENE("raw_clone") raw_clone();
  SCENE("executes") executes(argument[0]);
  SCENE("killed") { pairs(first, 64); kill(getpid(), SIGKILL); }
  SCENE("closes_everything") closes_everything();
  SCENE("folder_vanishes") folder_vanishes(argument[2], second);
  SCENE("switched") switched();
  SCENE("interrupted") interrupted(first, second);
  SCENE("life") life();
  else CHECK(!"a scene");
  return 0;
}
