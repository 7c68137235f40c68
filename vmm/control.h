/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The controller: carries out what the API and the configuration file ask for.
 *
 *     not started --InstanceStart--> running --pause--> paused --resume--> running
 *
 * It owns the configuration, the opened files, the guest memory that the kernel is loaded into as soon as /boot-source is
 * accepted, and the machine once it is built. Which request is legal in which state, and every semantic rule and its
 * text (CONTRACT.md sections 3 to 5), is decided here; a refused request changes nothing.
 *
 * Threads: the I/O thread, except control_request_exit(), any thread.
 */
#ifndef MAYFLY_VMM_CONTROL_H
#define MAYFLY_VMM_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "api-socket/action.h"
#include "vmm/evloop.h"

struct control;

struct control_params {
	struct evloop *loop;             /* borrowed, outlives the controller */
	const char *id, *version, *app_name; /* borrowed likewise */
	bool boot_timer;
	uint64_t start_time_us, start_time_cpu_us;
};

/* Returns 0 and *@out (owned), or negative errno with @e. */
int control_create(struct control **out, const struct control_params *params, struct err *e) MUST_USE;

/* The action handler of this controller; lives as long as it does. */
const struct action_handler *control_handler(struct control *c);

/* Ask the loop to end and the process to exit with @code; the first code wins. Any thread. */
void control_request_exit(void *control, int code);

/* The code asked for, or EXIT_CODE_OK. */
int control_exit_code(const struct control *c);

/* A fatal signal ends the process: put right what outlives it. Async-signal-safe. */
void control_emergency(struct control *c);

/* Stop the machine if there is one, close and free everything. NULL allowed. */
void control_destroy(struct control *c);

#endif
