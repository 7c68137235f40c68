/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A main() for fuzz targets without libFuzzer: runs every file named, and every file in every folder named, through the
 * target once. Built by gcc, so regressions are replayed where no clang is.
 *
 *     build/asan/replay_elf tests/fuzz/corpus/elf tests/fuzz/regress/elf
 *
 * When an input crashes, the last line on standard error before the sanitizer's report names it.
 * Exit status: 0 all inputs ran (also: none), 1 an input could not be read.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INPUT_MAX (64u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* Optional, as with libFuzzer. */
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);
/* Called by the sanitizers before they end the process. */
__attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)(void));

static const char *volatile current;
static unsigned n_run;

static void name_input(void)
{
	static const char text[] = "\nreplay: crashed on input: ";

	if (!current)
		return;
	(void)!write(2, text, sizeof(text) - 1);
	(void)!write(2, current, strlen(current));
	(void)!write(2, "\n", 1);
}

static void on_signal(int sig)
{
	name_input();
	(void)signal(sig, SIG_DFL);
	(void)raise(sig);
}

static int replay_file(const char *path, size_t size)
{
	uint8_t *data = malloc(size ? size : 1); /* exact size: a read behind the input is an error that ASan sees */
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t done = 0;
	int rc = 1;

	while (data && fd >= 0 && done < size) {
		ssize_t n = read(fd, data + done, size - done);

		if (n <= 0)
			break;
		done += (size_t)n;
	}
	if (data && fd >= 0 && done == size) {
		current = path;
		(void)LLVMFuzzerTestOneInput(data, size);
		current = NULL;
		n_run++;
		rc = 0;
	} else {
		fprintf(stderr, "replay: cannot read %s: %s\n", path, strerror(errno));
	}
	if (fd >= 0)
		(void)close(fd);
	free(data);
	return rc;
}

static int replay(const char *path, int depth)
{
	struct stat st;
	struct dirent *entry;
	DIR *dir;
	int rc = 0;

	if (stat(path, &st) != 0) {
		fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
		return 1;
	}
	if (S_ISREG(st.st_mode) && st.st_size <= INPUT_MAX)
		return replay_file(path, (size_t)st.st_size);
	if (!S_ISDIR(st.st_mode) || depth == 0)
		return 0;
	dir = opendir(path);
	if (!dir) {
		fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
		return 1;
	}
	while ((entry = readdir(dir))) {
		char sub[PATH_MAX];

		if (entry->d_name[0] == '.')
			continue;
		if (snprintf(sub, sizeof(sub), "%s/%s", path, entry->d_name) < (int)sizeof(sub))
			rc |= replay(sub, depth - 1);
	}
	(void)closedir(dir);
	return rc;
}

int main(int argc, char **argv)
{
	static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTERM};
	int rc = 0;

	if (__sanitizer_set_death_callback)
		__sanitizer_set_death_callback(name_input);
	else
		for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++)
			(void)signal(fatal[i], on_signal);
	(void)signal(SIGABRT, on_signal);
	(void)signal(SIGTERM, on_signal); /* a time limit: say which input hangs */
	if (LLVMFuzzerInitialize)
		(void)LLVMFuzzerInitialize(&argc, &argv);
	for (int i = 1; i < argc; i++)
		rc |= replay(argv[i], 4);
	printf("replayed %u inputs\n", n_run);
	return rc;
}
