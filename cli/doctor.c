/* SPDX-License-Identifier: Apache-2.0 */
/* `mayfly doctor`: options, output and exit status. The questions are in doctor_host.c and doctor_kvm.c. */
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/doctor.h"

#define LIMIT_MS 5000

enum output { OUTPUT_TEXT, OUTPUT_JSON, OUTPUT_NONE };

void doctor_add(struct doctor_report *report, const char *id, const char *title, enum doctor_verdict verdict,
	const char *remedy, const char *fmt, ...)
{
	struct doctor_finding *f;
	va_list args;

	must(report->n < DOCTOR_MAX);
	f = &report->finding[report->n++];
	f->id = id;
	f->title = title;
	f->verdict = verdict;
	f->remedy = remedy;
	va_start(args, fmt);
	vsnprintf(f->reason, sizeof(f->reason), fmt, args);
	va_end(args);
}

bool doctor_healthy(const struct doctor_report *report)
{
	for (size_t i = 0; i < report->n; i++)
		if (report->finding[i].verdict == DOCTOR_FAIL)
			return false;
	return true;
}

static const char *verdict_text(enum doctor_verdict verdict)
{
	switch (verdict) {
	case DOCTOR_OK:
		return "ok";
	case DOCTOR_WARN:
		return "warn";
	case DOCTOR_FAIL:
		return "fail";
	case DOCTOR_SKIP:
		return "skip";
	}
	return "?";
}

static bool needs_remedy(const struct doctor_finding *f)
{
	return f->remedy && (f->verdict == DOCTOR_FAIL || f->verdict == DOCTOR_WARN);
}

static void print_text(const struct doctor_report *report)
{
	size_t n_fail = 0;

	for (size_t i = 0; i < report->n; i++) {
		const struct doctor_finding *f = &report->finding[i];

		printf("%-5s %-40s %s\n", verdict_text(f->verdict), f->title, f->reason);
		n_fail += f->verdict == DOCTOR_FAIL;
	}
	if (n_fail == 0) {
		puts("\nThis host can run Linux microVMs.");
	} else {
		printf("\nThis host can't run Linux microVMs: %zu of %zu checks failed.\n", n_fail, report->n);
	}

	/* Each remedy once, however many findings share it. */
	for (size_t i = 0; i < report->n; i++) {
		const struct doctor_finding *f = &report->finding[i];
		bool said = false;

		for (size_t k = 0; k < i; k++)
			said |= needs_remedy(&report->finding[k]) && report->finding[k].remedy == f->remedy;
		if (needs_remedy(f) && !said)
			printf("What to do: %s\n", f->remedy);
	}
}

/* JSON string with what our own texts can hold. */
static void print_json_string(const char *s)
{
	putchar('"');
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			putchar('\\');
		if ((unsigned char)*s < 0x20)
			printf("\\u%04x", (unsigned)*s);
		else
			putchar(*s);
	}
	putchar('"');
}

static void print_json(const struct doctor_report *report)
{
	printf("{\"ok\":%s,\"checks\":[", doctor_healthy(report) ? "true" : "false");
	for (size_t i = 0; i < report->n; i++) {
		const struct doctor_finding *f = &report->finding[i];

		printf("%s{\"id\":", i ? "," : "");
		print_json_string(f->id);
		printf(",\"verdict\":\"%s\",\"title\":", verdict_text(f->verdict));
		print_json_string(f->title);
		printf(",\"reason\":");
		print_json_string(f->reason);
		if (needs_remedy(f)) {
			printf(",\"remedy\":");
			print_json_string(f->remedy);
		}
		putchar('}');
	}
	puts("]}");
}

static void usage(FILE *to)
{
	fputs("usage: mayfly doctor [--json | --quiet] [--kvm PATH]\n"
	      "\n"
	      "Examines this host's KVM: the device, its capabilities, and with tiny guests that do\n"
	      "one thing each whether it does what Linux needs. Changes nothing, takes a second.\n"
	      "\n"
	      "  --json      one JSON object: {\"ok\":bool,\"checks\":[{id,verdict,title,reason,remedy}]}\n"
	      "  --quiet     print nothing, answer with the exit status\n"
	      "  --kvm PATH  examine PATH instead of /dev/kvm\n"
	      "\n"
	      "Exit status: 0 this host can run Linux microVMs, 1 it can't, 2 wrong usage.\n",
		to);
}

int cli_doctor(int argc, char **argv)
{
	static const struct option options[] = {
		{"json", no_argument, NULL, 'j'},
		{"quiet", no_argument, NULL, 'q'},
		{"kvm", required_argument, NULL, 'k'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	const char *path = "/dev/kvm";
	enum output output = OUTPUT_TEXT;
	struct doctor_report report = {.n = 0};
	int c;

	while ((c = getopt_long(argc, argv, "jqh", options, NULL)) != -1) {
		switch (c) {
		case 'j':
			output = OUTPUT_JSON;
			break;
		case 'q':
			output = OUTPUT_NONE;
			break;
		case 'k':
			path = optarg;
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "mayfly doctor: unexpected argument '%s'\n", argv[optind]);
		usage(stderr);
		return 2;
	}
	if (doctor_check_host(path, &report))
		doctor_check_guests(path, LIMIT_MS, &report);
	if (output == OUTPUT_TEXT)
		print_text(&report);
	else if (output == OUTPUT_JSON)
		print_json(&report);
	return doctor_healthy(&report) ? 0 : 1;
}
