/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/signals.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/vcpu.h"

#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1 /* si_code of a SIGSYS from a seccomp filter; asm-generic/siginfo.h, which glibc 2.36 leaves out */
#endif

/* SIGPIPEs that are logged. */
#define PIPE_LINES_MAX 10

#define EXIT_CODE_UNEXPECTED 2
#define EXIT_CODE_BAD_SYSCALL 148

static const struct fatal_signal {
	int signo;
	int exit_code;
} fatal_signals[] = {
	{SIGBUS, 149}, {SIGSEGV, 150}, {SIGXFSZ, 151}, {SIGXCPU, 154}, {SIGHUP, 156}, {SIGILL, 157},
};

/* A signal handler has no argument of ours: what it needs is written once, before it is installed. */
static struct {
	void (*terminate)(void *ctx, int signo);
	void (*emergency)(void *ctx);
	void *ctx;
	_Atomic int terminated_by;
	_Atomic unsigned int n_pipe; /* SIGPIPEs */
} hooks;

static void on_terminate(int signo)
{
	int saved = errno;
	int none = 0;

	(void)atomic_compare_exchange_strong(&hooks.terminated_by, &none, signo);
	hooks.terminate(hooks.ctx, signo);
	errno = saved;
}

/* A guest that writes to host programs which have gone brings this about as often as it likes: the log ends after a few. */
static void on_pipe(int signo, siginfo_t *info, void *context)
{
	int saved = errno;
	unsigned int nth = atomic_fetch_add(&hooks.n_pipe, 1) + 1;

	(void)context;
	if (nth <= PIPE_LINES_MAX)
		log_error("Received signal %d, code %d.%s", signo, info->si_code,
			  nth == PIPE_LINES_MAX ? " It is not logged any more." : "");
	errno = saved;
}

static void on_fatal(int signo, siginfo_t *info, void *context)
{
	int code = EXIT_CODE_UNEXPECTED;

	(void)context;
	for (size_t i = 0; i < ARRAY_SIZE(fatal_signals); i++) {
		if (fatal_signals[i].signo == signo)
			code = fatal_signals[i].exit_code;
	}
	log_error("Shutting down VM after intercepting signal %d, code %d.", signo, info->si_code);
	if (signo == SIGSYS && info->si_code == SYS_SECCOMP) {
		log_error("Shutting down VM after intercepting a bad syscall (%d).", info->si_syscall);
		code = EXIT_CODE_BAD_SYSCALL;
	}
	hooks.emergency(hooks.ctx);
	_exit(code);
}

/* must() failed, or abort() from outside: the terminal is put right, then the process dies as it would have. */
static void on_abort(int signo)
{
	hooks.emergency(hooks.ctx);
	signals_die_of(signo);
}

static void on_kick(int signo)
{
	(void)signo; /* its arrival is the message: KVM_RUN returns EINTR */
}

static int install(int signo, const struct sigaction *action, struct err *e)
{
	if (sigaction(signo, action, NULL) < 0)
		return err_sys(e, -errno, "install the handler of signal %d", signo);
	return 0;
}

int signals_install(void (*terminate)(void *ctx, int signo), void (*emergency)(void *ctx), void *ctx, struct err *e)
{
	static const int terminating[] = {SIGTERM, SIGINT, SIGQUIT};
	struct sigaction term = {.sa_handler = on_terminate, .sa_flags = (int)SA_RESETHAND};
	struct sigaction fatal = {.sa_sigaction = on_fatal, .sa_flags = SA_SIGINFO};
	struct sigaction pipe = {.sa_sigaction = on_pipe, .sa_flags = SA_SIGINFO};
	struct sigaction kick = {.sa_handler = on_kick};
	struct sigaction abrt = {.sa_handler = on_abort, .sa_flags = (int)SA_RESETHAND};
	int rc;

	hooks.terminate = terminate;
	hooks.emergency = emergency;
	hooks.ctx = ctx;
	for (size_t i = 0; i < ARRAY_SIZE(terminating); i++) {
		rc = install(terminating[i], &term, e);
		if (rc)
			return rc;
	}
	for (size_t i = 0; i < ARRAY_SIZE(fatal_signals); i++) {
		rc = install(fatal_signals[i].signo, &fatal, e);
		if (rc)
			return rc;
	}
	rc = install(SIGSYS, &fatal, e);
	if (rc)
		return rc;
	rc = install(SIGPIPE, &pipe, e);
	if (rc)
		return rc;
	rc = install(SIGABRT, &abrt, e);
	if (rc)
		return rc;
	return install(VCPU_KICK_SIGNAL, &kick, e);
}

int signals_terminated_by(void)
{
	return atomic_load(&hooks.terminated_by);
}

void signals_die_of(int signo)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	sigset_t set;

	(void)sigaction(signo, &dfl, NULL);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, signo);
	(void)sigprocmask(SIG_UNBLOCK, &set, NULL);
	(void)raise(signo);
}
