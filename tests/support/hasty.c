/* A machine on which the time since boot goes by faster than outside; the wall clock and the time in suspend do not.
 * The file that HASTE names says since when and how much faster, as three numbers of eight bytes: the time outside, the time here, both
 * in nanoseconds, and how many times as fast it goes from there on. It changes only while the process is stopped. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

static struct { long long outside, here, speed; } volatile *haste;
static long (*next_syscall)(long, ...);
static int (*next_epoll_wait)(int, struct epoll_event *, int, int);

__attribute__((constructor)) static void find(void) {
    next_syscall = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    next_epoll_wait = (int (*)(int, struct epoll_event *, int, int))dlsym(RTLD_NEXT, "epoll_wait");
    const char *name = getenv("HASTE");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *page = mmap(NULL, sizeof *haste, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (page != MAP_FAILED) haste = page;
}

static struct timespec of(long long nanoseconds) {
    return (struct timespec){nanoseconds / SECOND, nanoseconds % SECOND};
}

static long long in(const struct timespec *time) {
    return time->tv_sec * SECOND + time->tv_nsec;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int code = next_syscall(SYS_clock_gettime, clock, time);
    if (code == 0 && haste && clock == CLOCK_MONOTONIC) *time = of(haste->here + (in(time) - haste->outside) * haste->speed);
    return code;
}

int epoll_wait(int epoll, struct epoll_event *events, int most, int milliseconds) {
    int speed = haste ? haste->speed : 1;
    return next_epoll_wait(epoll, events, most, milliseconds > 0 ? (milliseconds + speed - 1) / speed : milliseconds);
}

/* The standard library waits for a moment by this one, and for nothing else. */
long syscall(long number, ...) {
    va_list list;
    va_start(list, number);
    long a[6];
    for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
    va_end(list);
    struct timespec until;
    if (number == SYS_futex && haste && a[1] == (FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG) && a[3]) {
        until = of(haste->outside + (in((struct timespec *)a[3]) - haste->here) / haste->speed);
        a[3] = (long)&until;
    }
    return next_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
