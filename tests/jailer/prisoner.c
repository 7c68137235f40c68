/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs in a jail in the monitor's place and says what it finds there, one "key value" a line on standard output or in the
 * file named by the argument after "report". With "wait" it goes on until it is killed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static FILE *out;

static void list_fds(void)
{
	fprintf(out, "fds");
	for (int fd = 0; fd < 4096; fd++) {
		if (fcntl(fd, F_GETFD) >= 0)
			fprintf(out, " %d", fd);
	}
	fprintf(out, "\n");
}

static void list_dir(const char *path)
{
	struct dirent **names;
	int n = scandir(path, &names, NULL, alphasort);

	fprintf(out, "ls %s", path);
	for (int i = 0; i < n; i++) {
		if (names[i]->d_name[0] != '.')
			fprintf(out, " %s", names[i]->d_name);
	}
	fprintf(out, "\n");
}

static void show_limit(const char *name, int resource)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit) == 0)
		fprintf(out, "%s %lld %lld\n", name, (long long)limit.rlim_cur, (long long)limit.rlim_max);
}

static void show_bounding_set(void)
{
	int n = 0;

	for (int cap = 0; cap < 64; cap++)
		n += prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1;
	fprintf(out, "bounding %d\n", n);
}

int main(int argc, char **argv, char **env)
{
	char cwd[4096] = "";
	int wait = 0, n_env = 0;

	out = stdout;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "report") == 0 && i + 1 < argc)
			out = fopen(argv[i + 1], "w");
		wait |= strcmp(argv[i], "wait") == 0;
	}
	if (!out)
		return 9;
	fprintf(out, "argv");
	for (int i = 0; i < argc; i++)
		fprintf(out, " %s", argv[i]);
	while (env[n_env])
		n_env++;
	fprintf(out, "\nenv %d\nids %u %u %u %u groups %d\n", n_env, getuid(), geteuid(), getgid(), getegid(), getgroups(0, NULL));
	fprintf(out, "pid %d session_leader %d\n", getpid(), getsid(0) == getpid());
	fprintf(out, "cwd %s\n", getcwd(cwd, sizeof(cwd)) ? cwd : "?");
	fprintf(out, "no_new_privs %d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	show_bounding_set();
	show_limit("nofile", RLIMIT_NOFILE);
	show_limit("fsize", RLIMIT_FSIZE);
	list_fds();
	list_dir("/");
	list_dir("/dev");
	fprintf(out, "chroot_twice %s\n", chroot("/dev") == 0 ? "worked" : strerror(errno));
	fprintf(out, "setuid_root %s\n", setuid(0) == 0 && getuid() == 0 ? "worked" : "refused");
	fflush(out);
	while (wait)
		pause();
	return 3;
}
