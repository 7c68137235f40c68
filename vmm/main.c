/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor's entry: command line -> log -> API socket -> configuration file -> event loop -> orderly end.
 *
 * The order and the log lines are the contract's (CONTRACT.md 6.1); only this file exits.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "api-socket/config_file.h"
#include "api-socket/server.h"
#include "vmm/args.h"
#include "vmm/base/log.h"
#include "vmm/control.h"
#include "vmm/evloop.h"
#include "vmm/machine.h"
#include "vmm/signals.h"
#include "vmm/base/version.h"

struct monitor {
	struct evloop *loop;
	struct control *control;
	struct api_server *server;
};

static uint64_t clock_us(clockid_t clock)
{
	struct timespec t;

	(void)clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* Signal context: ask for an orderly end. */
static void on_terminate(void *ctx, int signo)
{
	const struct monitor *m = ctx;

	(void)signo;
	if (m->control)
		control_request_exit(m->control, EXIT_CODE_OK);
}

/* Signal context: the process ends at once. */
static void on_emergency(void *ctx)
{
	const struct monitor *m = ctx;

	if (m->control)
		control_emergency(m->control);
}

/* Under Firecracker's name clients parse Firecracker's version. */
static const char *own_version(const struct args *args)
{
	return strcmp(args->app_name, "Firecracker") == 0 ? MAYFLY_API_VERSION : MAYFLY_VERSION;
}

/*
 * Whoever started us may have closed 0, 1 or 2. Without this the next thing opened, a socket or a disk, would get that
 * number, and the log or the guest's console would be written into it. The placeholder can be neither read nor written.
 */
static bool occupy_standard_fds(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) < 0 && open("/", O_PATH) != fd)
			return false;
	}
	return true;
}

static int open_log(const struct args *args, struct err *e)
{
	log_set_id(args->id);
	log_set_thread("main");
	log_set_level(args->level);
	log_set_show(args->show_level, args->show_log_origin);
	if (args->module)
		log_set_module(args->module);
	if (!args->log_path || log_open(args->log_path, e) == 0)
		return 0;
	return err_wrap(e, e->code, "--log-path '%.200s'", args->log_path);
}

static int start_api(struct monitor *m, const struct args *args, struct err *e)
{
	struct api_limits limits = {.max_payload = args->http_api_max_payload_size};
	int rc;

	rc = api_server_create(&m->server, m->loop, args->api_sock, control_handler(m->control), &limits, e);
	if (rc) {
		log_error("Failed to open the API socket at: %s. Check that it is not already used.", args->api_sock);
		return rc;
	}
	log_info("Listening on API socket (\"%s\").", args->api_sock);
	log_info("API server started.");
	return 0;
}

static int set_up(struct monitor *m, const struct args *args, struct err *e)
{
	struct control_params params = {
		.id = args->id,
		.version = MAYFLY_API_VERSION,
		.app_name = args->app_name,
		.boot_timer = args->boot_timer,
		.start_time_us = args->start_time_us ? args->start_time_us : clock_us(CLOCK_MONOTONIC),
		.start_time_cpu_us = args->start_time_us ? args->start_time_cpu_us : clock_us(CLOCK_PROCESS_CPUTIME_ID),
	};
	int rc;

	rc = signals_install(on_terminate, on_emergency, m, e);
	if (rc)
		return rc;
	rc = evloop_create(&m->loop, e);
	if (rc)
		return rc;
	params.loop = m->loop;
	rc = control_create(&m->control, &params, e);
	if (rc)
		return rc;
	if (!args->no_api) {
		rc = start_api(m, args, e);
		if (rc)
			return rc;
	}
	/* Clients that connect meanwhile wait in the backlog: their first answer is of the running microVM. */
	return args->config_file ? config_file_apply(args->config_file, control_handler(m->control), e) : 0;
}

static void tear_down(struct monitor *m)
{
	control_destroy(m->control);
	api_server_destroy(m->server);
	evloop_destroy(m->loop);
}

static int run(struct monitor *m, const struct args *args)
{
	struct err e = {0};
	int code = EXIT_CODE_OK;

	if (set_up(m, args, &e)) {
		log_error("%s", e.msg);
		fprintf(stderr, "Error: %s\n", e.msg);
		code = EXIT_CODE_GENERIC;
	} else if (evloop_run(m->loop)) {
		log_error("The event loop failed.");
		code = EXIT_CODE_GENERIC;
	} else {
		code = control_exit_code(m->control);
		log_info("Vmm is stopping.");
	}
	tear_down(m);
	return code;
}

int main(int argc, char **argv)
{
	struct monitor m = {0};
	struct args args;
	struct err e = {0};
	int code;

	if (!occupy_standard_fds())
		return EXIT_CODE_GENERIC;
	switch (args_parse(&args, argc, argv, &e)) {
	case ARGS_RUN:
		break;
	case ARGS_DONE:
		return EXIT_CODE_OK;
	case ARGS_BAD:
		fprintf(stderr, "%s\n", e.msg);
		return e.code;
	}
	if (open_log(&args, &e)) {
		fprintf(stderr, "Error: Could not open the log: %s\n", e.msg);
		return EXIT_CODE_GENERIC;
	}
	log_info("Running %s v%s", args.app_name, own_version(&args));
	code = run(&m, &args);
	if (signals_terminated_by()) {
		log_info("%s ends after signal %d.", args.app_name, signals_terminated_by());
		signals_die_of(signals_terminated_by());
	}
	if (code)
		log_error("%s exiting with error. exit_code=%d", args.app_name, code);
	else
		log_info("%s exiting successfully. exit_code=0", args.app_name);
	return code;
}
