/* What no machine shows: while /run/headwater/clockless is there, no clock can be read. Rust's standard library holds that for impossible, and
 * panics: the one way to see a panic in a program that has no bug and no switch for it. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (access("/run/headwater/clockless", F_OK) == 0) {
        errno = EINVAL;
        return -1;
    }
    return syscall(SYS_clock_gettime, clock, time);
}
