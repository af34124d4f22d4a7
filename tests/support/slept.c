/* What a machine shows that has slept: the wall clock and the time since boot have gone on, and no other clock has.
 * The file that SLEPT names says for how many seconds, as a number of eight bytes; it may change at any moment. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile long long *slept;

__attribute__((constructor)) static void find(void) {
    const char *name = getenv("SLEPT");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *page = mmap(NULL, sizeof *slept, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (page != MAP_FAILED) slept = page;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int code = syscall(SYS_clock_gettime, clock, time);
    if (code == 0 && slept && (clock == CLOCK_REALTIME || clock == CLOCK_BOOTTIME)) time->tv_sec += *slept;
    return code;
}
