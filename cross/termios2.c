/* Lets a program open a serial port by its name under qemu-user, which knows TCGETS and TCSETS and not their successors.
 *
 * The successors carry a baud rate of any number, which means nothing to the pseudo terminals of the tests. */

#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SHARED_PART offsetof(struct termios2, c_ispeed)

static int set(int fd, unsigned long request, const struct termios2 *mode)
{
	struct termios old = { 0 };

	memcpy(&old, mode, SHARED_PART);
	old.c_cflag = (old.c_cflag & ~(CBAUD | CIBAUD)) | B38400;
	return syscall(SYS_ioctl, fd, request, &old);
}

static int get(int fd, struct termios2 *mode)
{
	struct termios old = { 0 };
	int outcome = syscall(SYS_ioctl, fd, TCGETS, &old);

	memcpy(mode, &old, SHARED_PART);
	mode->c_ispeed = mode->c_ospeed = 38400;
	return outcome;
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list rest;
	void *argument;

	va_start(rest, request);
	argument = va_arg(rest, void *);
	va_end(rest);
	switch (request) {
	case TCGETS2: return get(fd, argument);
	case TCSETS2: return set(fd, TCSETS, argument);
	case TCSETSW2: return set(fd, TCSETSW, argument);
	case TCSETSF2: return set(fd, TCSETSF, argument);
	default: return syscall(SYS_ioctl, fd, request, argument);
	}
}
