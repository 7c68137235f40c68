/* SPDX-License-Identifier: Apache-2.0 */
#include "api-socket/config_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "api-socket/body.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"

#define CONTENT_FAULT "Configuration for VMM from one single json failed"
#define START_FAULT "Could not Start MicroVM from one single json"
#define READ_FAULT "Unable to open or read from the configuration file"
#define LIMIT_TEXT "a configuration file may have"
#define LIST_MAX CONFIG_MAX_DRIVES /* elements */
#define READ_STEP 65536
#define WHERE_MAX 32
#define QUOTE_MAX 200 /* bytes of a section that a message repeats */

_Static_assert(LIST_MAX == CONFIG_MAX_NETS, "one limit for every list");

/* How a section of the document is treated. */
enum section_kind {
	SECTION_OBJECT, /* becomes one action */
	SECTION_LIST,   /* an array: one action for each element */
	SECTION_LATER,	/* null and [] are accepted: a device that clients know and that is not there yet */
	SECTION_NEVER,	/* the same for what Mayfly does not have by design */
};

struct section {
	char name[20];
	enum section_kind kind;
	bool required;
	enum action_type action;
	enum config_table table;
};

/* In the order in which they are applied (CONTRACT.md 6.2). */
static const struct section sections[] = {
	{"logger", SECTION_OBJECT, false, ACTION_PUT_LOGGER, CONFIG_LOGGER},
	{"metrics", SECTION_LATER, false, 0, 0},
	{"machine-config", SECTION_OBJECT, false, ACTION_PUT_MACHINE, CONFIG_MACHINE},
	{"cpu-config", SECTION_LATER, false, 0, 0},
	{"boot-source", SECTION_OBJECT, true, ACTION_PUT_BOOT_SOURCE, CONFIG_BOOT_SOURCE},
	{"drives", SECTION_LIST, true, ACTION_PUT_DRIVE, CONFIG_DRIVE},
	{"network-interfaces", SECTION_LIST, false, ACTION_PUT_NET, CONFIG_NET},
	{"vsock", SECTION_OBJECT, false, ACTION_PUT_VSOCK, CONFIG_VSOCK},
	{"balloon", SECTION_NEVER, false, 0, 0},
	{"mmds-config", SECTION_LATER, false, 0, 0},
	{"entropy", SECTION_NEVER, false, 0, 0},
	{"pmem", SECTION_NEVER, false, 0, 0},
	{"memory-hotplug", SECTION_NEVER, false, 0, 0},
};

#define N_SECTIONS ARRAY_SIZE(sections)

struct found {
	bool there;
	struct json_span value;
};

/* One document. */
struct loader {
	struct json_text text;
	struct found found[N_SECTIONS];
	const struct action_handler *handler;
	struct err *e;
};

static int fail(struct loader *l, const char *where, const char *why)
{
	return err_set(l->e, -EINVAL, CONTENT_FAULT ": %s: %s", where, why);
}

/* ---- check ------------------------------------------------------------------------------------------------------- */

static char first_of(const struct loader *l, struct json_span span)
{
	return l->text.data[span.start];
}

static bool is_empty(const struct loader *l, struct json_span value)
{
	struct json_span element;
	size_t cursor = 0;

	return first_of(l, value) == 'n' ||
	       (first_of(l, value) == '[' && !json_next_element(&l->text, value, &cursor, &element));
}

/* Parse the object at @value into @action; the caller frees it, also after a failure. */
static int parse_action(struct loader *l, const struct section *section, struct json_span value, const char *where,
	struct action *action)
{
	struct body_fault bad;

	*action = (struct action){.type = section->action};
	/* Every struct of a section is a member of the action's union, so they all begin where it does. */
	if (body_parse_at(&l->text, value, section->table, &action->machine, &bad))
		return err_set(l->e, -EINVAL, CONTENT_FAULT ": %s%s%s: %s", where, bad.field[0] ? "." : "", bad.field,
			bad.msg);
	return 0;
}

/* The name of a list's element in messages. */
static void element_where(const struct section *section, size_t i, char where[WHERE_MAX])
{
	(void)snprintf(where, WHERE_MAX, "%.20s[%u]", section->name, (unsigned)i);
}

/*
 * Look at @value as parse_action does and drop the result: what is wrong anywhere is found before anything is applied.
 */
static int check_object(struct loader *l, const struct section *section, struct json_span value, const char *where)
{
	struct action action;
	int rc = parse_action(l, section, value, where, &action);

	action_fini(&action);
	return rc;
}

static int check_list(struct loader *l, const struct section *section, struct json_span value)
{
	struct json_span element;
	struct body_fault bad;
	size_t cursor = 0;
	char where[WHERE_MAX];

	if (first_of(l, value) != '[') {
		(void)body_fault_type(&bad, &l->text, value, "a sequence");
		return fail(l, section->name, bad.msg);
	}
	for (size_t i = 0; json_next_element(&l->text, value, &cursor, &element); i++) {
		int rc;

		if (i == LIST_MAX)
			return err_set(l->e, -EINVAL, CONTENT_FAULT ": %s: more than %d elements", section->name, LIST_MAX);
		element_where(section, i, where);
		rc = check_object(l, section, element, where);
		if (rc)
			return rc;
	}
	return 0;
}

static int check_section(struct loader *l, const struct section *section, struct found *found)
{
	if (found->there && first_of(l, found->value) == 'n' && !section->required)
		found->there = false;
	if (!found->there)
		return 0;
	switch (section->kind) {
	case SECTION_OBJECT:
		return check_object(l, section, found->value, section->name);
	case SECTION_LIST:
		return check_list(l, section, found->value);
	case SECTION_LATER:
		if (!is_empty(l, found->value))
			return fail(l, section->name, "not available in this version of Mayfly");
		break;
	case SECTION_NEVER:
		if (!is_empty(l, found->value))
			return fail(l, section->name, "Mayfly does not have this device");
		break;
	}
	return 0;
}

/* ---- find the sections ------------------------------------------------------------------------------------------- */

/* Take one member of the document. */
static int find_section(struct loader *l, struct json_span key, struct json_span value)
{
	AUTO_FREE char *name = json_decode_string(&l->text, key);
	struct body_fault bad;
	size_t i = 0;

	if (!name)
		return err_sys(l->e, -ENOMEM, CONTENT_FAULT);
	while (i < N_SECTIONS && strcmp(sections[i].name, name) != 0)
		i++;
	if (i == N_SECTIONS) {
		if (strcmp(name, "serial") == 0) /* the contract ignores it too (CONTRACT.md 6.2) */
			log_warn("Section `serial` of the configuration file is ignored: it can be set by PUT /serial only.");
		else
			log_warn("Unknown section `%.64s` of the configuration file is ignored.", name);
		return 0;
	}
	if (l->found[i].there) {
		(void)body_fault_at(&bad, &l->text, key.end, "duplicate field `%s`", sections[i].name);
		return err_set(l->e, -EINVAL, CONTENT_FAULT ": %s", bad.msg);
	}
	l->found[i] = (struct found){.there = true, .value = value};
	return 0;
}

static int find_sections(struct loader *l)
{
	struct json_fault syntax;
	struct body_fault bad;
	struct json_span root, key, value;
	size_t cursor = 0;

	if (!json_check(&l->text, &syntax)) {
		(void)body_fault_at(&bad, &l->text, syntax.at, "%s", syntax.what);
		return err_set(l->e, -EINVAL, CONTENT_FAULT ": %s", bad.msg);
	}
	root = json_root(&l->text);
	if (first_of(l, root) != '{') {
		(void)body_fault_type(&bad, &l->text, root, "struct VmmConfig");
		return err_set(l->e, -EINVAL, CONTENT_FAULT ": %s", bad.msg);
	}
	while (json_next_member(&l->text, root, &cursor, &key, &value)) {
		int rc = find_section(l, key, value);

		if (rc)
			return rc;
	}
	for (size_t i = 0; i < N_SECTIONS; i++) {
		if (sections[i].required && !l->found[i].there) {
			(void)body_fault_at(&bad, &l->text, root.end, "missing field `%s`", sections[i].name);
			return err_set(l->e, -EINVAL, CONTENT_FAULT ": %s (%s)", bad.msg,
				       sections[i].kind == SECTION_LIST ? "`\"drives\": []` for a guest without disks"
									   : "it names the kernel to boot");
		}
	}
	return 0;
}

/* ---- apply ------------------------------------------------------------------------------------------------------- */

/* The text of @span as one line of at most @cap bytes: the fault of an action need not repeat the value it is about. */
static void quote_span(const struct loader *l, struct json_span span, char *buf, size_t cap)
{
	size_t n = 0, at = span.start;

	while (at < span.end && n + 4 < cap) {
		char ch = l->text.data[at++];

		if ((unsigned char)ch >= 0x20 && !(ch == ' ' && n && buf[n - 1] == ' '))
			buf[n++] = ch;
	}
	(void)snprintf(buf + n, cap - n, "%s", at < span.end ? "..." : "");
}

static int act(struct loader *l, struct action *action, struct json_span value, const char *where)
{
	char given[QUOTE_MAX];

	struct reply reply = {.status = 0};

	l->handler->handle(l->handler->ctx, action, &reply);
	if (reply.status == 200 || reply.status == 204)
		return 0;
	quote_span(l, value, given, sizeof(given));
	return err_set(l->e, -EINVAL, CONTENT_FAULT ": %s: %s (given: %s)", where, reply.fault, given);
}

static int apply_object(struct loader *l, const struct section *section, struct json_span value, const char *where)
{
	struct action action;
	int rc = parse_action(l, section, value, where, &action);

	if (!rc)
		rc = act(l, &action, value, where);
	action_fini(&action);
	return rc;
}

static int apply_section(struct loader *l, size_t i)
{
	struct json_span element;
	size_t cursor = 0;
	char where[WHERE_MAX];

	if (!l->found[i].there)
		return 0;
	if (sections[i].kind == SECTION_OBJECT)
		return apply_object(l, &sections[i], l->found[i].value, sections[i].name);
	if (sections[i].kind != SECTION_LIST)
		return 0;
	for (size_t n = 0; json_next_element(&l->text, l->found[i].value, &cursor, &element); n++) {
		int rc;

		element_where(&sections[i], n, where);
		rc = apply_object(l, &sections[i], element, where);
		if (rc)
			return rc;
	}
	return 0;
}

static int start(struct loader *l)
{
	struct action action = {.type = ACTION_INSTANCE_START};
	struct reply reply = {.status = 0};

	l->handler->handle(l->handler->ctx, &action, &reply);
	if (reply.status != 200 && reply.status != 204)
		return err_set(l->e, -ECANCELED, START_FAULT ": %s", reply.fault);
	log_info("Successfully started microvm that was configured from one single json");
	return 0;
}

int config_file_apply_text(const char *text, size_t len, const struct action_handler *handler, struct err *e)
{
	struct loader l = {.text = {.data = text, .len = len}, .handler = handler, .e = e};
	int rc = find_sections(&l);

	for (size_t i = 0; !rc && i < N_SECTIONS; i++)
		rc = check_section(&l, &sections[i], &l.found[i]);
	for (size_t i = 0; !rc && i < N_SECTIONS; i++)
		rc = apply_section(&l, i);
	return rc ? rc : start(&l);
}

/* ---- read -------------------------------------------------------------------------------------------------------- */

/* Read all of @fd, which may be a pipe, into *@out (owned). */
static int read_all(int fd, const char *path, char **out, size_t *len, struct err *e)
{
	AUTO_FREE char *buf = NULL;
	size_t cap = 0, n = 0;

	for (;;) {
		ssize_t got;

		if (n == cap) {
			char *bigger = realloc(buf, cap + READ_STEP);

			if (!bigger)
				return err_sys(e, -ENOMEM, READ_FAULT);
			buf = bigger;
			cap += READ_STEP;
		}
		got = read(fd, buf + n, cap - n);
		/* EINTR too: a pipe may never say anything, and the signal may be the one that is to end us. */
		if (got < 0)
			return err_sys(e, -errno, READ_FAULT ": '%s'", path);
		if (got == 0)
			break;
		n += (size_t)got;
		if (n > CONFIG_FILE_MAX)
			return err_set(e, -EFBIG, CONTENT_FAULT ": '%s' has more than the %u bytes that " LIMIT_TEXT,
				path, CONFIG_FILE_MAX);
	}
	*out = ptr_take(&buf);
	*len = n;
	return 0;
}

/* Add the file's name to the message of a refusal. */
static int name_file(struct err *e, const char *path, size_t len)
{
	char reason[ERR_MSG_MAX];

	memcpy(reason, e->msg, sizeof(reason));
	return err_set(e, e->code, "%.390s (in '%.100s'%s)", reason, path, len ? "" : ", which is empty");
}

int config_file_apply(const char *path, const struct action_handler *handler, struct err *e)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	AUTO_FREE char *text = NULL;
	struct stat st;
	size_t len = 0;
	int rc;

	if (fd < 0)
		return err_sys(e, -errno, READ_FAULT ": '%s'", path);
	if (fstat(fd, &st))
		return err_sys(e, -errno, READ_FAULT ": '%s'", path);
	/* What the file system says is enough to refuse; nothing of a file that is too big is read. */
	if (S_ISREG(st.st_mode) && st.st_size > (off_t)CONFIG_FILE_MAX)
		return err_set(e, -EFBIG, CONTENT_FAULT ": '%s' has %lld bytes, more than the %u that " LIMIT_TEXT,
			path, (long long)st.st_size, CONFIG_FILE_MAX);
	rc = read_all(fd, path, &text, &len, e);
	if (rc)
		return rc;
	rc = config_file_apply_text(text, len, handler, e);
	return rc ? name_file(e, path, len) : 0;
}
