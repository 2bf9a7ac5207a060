/* A clock that is ahead, for a process and all that it starts: preload it (LD_PRELOAD), with LATER_BY seconds.
 *
 * Ahead are the time of day and the times of files that were written since LATER_SINCE (seconds since the
 * epoch, real); older files keep theirs, as they would have if the clock had gone on. The monotonic clock,
 * and so every time-out, is the real one. An absolute deadline that a caller has worked out from the time of
 * day is taken back to the real one. docs/decisions/0061 says why this is not libfaketime.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t by, since;

__attribute__((constructor)) static void start(void) {
  const char *text = getenv("LATER_BY"), *from = getenv("LATER_SINCE");
  by = text ? atoll(text) : 0;
  since = from ? atoll(from) : 0;
}

static time_t real_now(void) {
  struct timespec now;
  syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
  return now.tv_sec;
}

/* Time of day */

int clock_gettime(clockid_t clock, struct timespec *now) {
  int failed = (int)syscall(SYS_clock_gettime, clock, now);
  if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += by;
  return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  int failed = (int)syscall(SYS_gettimeofday, now, zone);
  if (!failed) now->tv_sec += by;
  return failed;
}

time_t time(time_t *found) {
  time_t now = real_now() + by;
  if (found) *found = now;
  return now;
}

int timespec_get(struct timespec *now, int base) {
  return base == TIME_UTC && !clock_gettime(CLOCK_REALTIME, now) ? base : 0;
}

/* Deadlines. Which clock a condition waits by is not to be seen: a deadline is the later clock's if it is far ahead. */

static struct timespec real(const struct timespec *deadline) {
  struct timespec found = *deadline;
  if (found.tv_sec > real_now() + by / 2) found.tv_sec -= by;
  return found;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict deadline) {
  struct timespec until = real(deadline);
  return NEXT(sem_timedwait)(semaphore, &until);
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict mutex, const struct timespec *restrict deadline) {
  struct timespec until = real(deadline);
  return NEXT(pthread_mutex_timedlock)(mutex, &until);
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict deadline) {
  static __typeof__(&pthread_cond_timedwait) next;
  struct timespec until = real(deadline);
  if (!next) next = (__typeof__(next))dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2"); /* x86-64's current one */
  if (!next) next = NEXT(pthread_cond_timedwait);
  return next(condition, mutex, &until);
}

/* Times of files */

static void age(struct timespec *written) {
  if (written->tv_sec >= since && written->tv_sec <= real_now()) written->tv_sec += by;
}

#define STAT(name, arguments, ...)                                                              \
  int name arguments {                                                                          \
    int failed = NEXT(name)(__VA_ARGS__);                                                       \
    if (!failed) age(&found->st_atim), age(&found->st_mtim), age(&found->st_ctim);              \
    return failed;                                                                              \
  }

STAT(stat, (const char *restrict path, struct stat *restrict found), path, found)
STAT(lstat, (const char *restrict path, struct stat *restrict found), path, found)
STAT(fstat, (int file, struct stat *found), file, found)
STAT(fstatat, (int folder, const char *restrict path, struct stat *restrict found, int flags), folder, path, found, flags)
STAT(stat64, (const char *restrict path, struct stat64 *restrict found), path, found)
STAT(lstat64, (const char *restrict path, struct stat64 *restrict found), path, found)
STAT(fstat64, (int file, struct stat64 *found), file, found)
STAT(fstatat64, (int folder, const char *restrict path, struct stat64 *restrict found, int flags), folder, path, found, flags)
