/* SPDX-License-Identifier: Apache-2.0 */
/* The host's side of `mayfly doctor`: is there a KVM, may this process use it, has it what a microVM needs? */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/doctor.h"
#include "vmm/base/fd.h"

#define REMEDY_NO_DEVICE                                                                                               \
	"load the module (modprobe kvm_intel or kvm_amd); if that fails, enable VT-x/AMD-V in the firmware, or on a "  \
	"rented machine choose an instance with nested virtualization or bare metal; in a container, pass --device "   \
	"/dev/kvm"
#define REMEDY_NO_HARDWARE                                                                                             \
	"this machine or its hypervisor does not show VT-x/AMD-V: enable it there, or use tests/lab/lab, which "       \
	"emulates a host"
#define REMEDY_PERMISSION                                                                                              \
	"add the user to the group that owns the device (usually `usermod -aG kvm USER`, then log in again), or run "  \
	"as root"
#define REMEDY_OLD_KERNEL "use a host kernel of 5.10 or newer"
#define REMEDY_NOT_KVM "remove what stands there and reload the kvm module; the device is major 10, minor 232"

struct capability {
	int number;
	const char *name, *reason;
};

static const struct capability capabilities[] = {
	{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY", "guest RAM"},
	{KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP", "interrupt controllers in the kernel"},
	{KVM_CAP_IRQFD, "KVM_CAP_IRQFD", "device interrupts"},
	{KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD", "device doorbells"},
	{KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID", "the processor's feature table"},
	{KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR", "real mode on Intel"},
	{KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE", "more than one vCPU"},
	{KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS", "pause and snapshot"},
	{KVM_CAP_XSAVE, "KVM_CAP_XSAVE", "vector registers"},
	{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT", "stopping a vCPU without a race"},
};

/* Does /proc/cpuinfo show hardware virtualization? */
static bool cpu_has_virtualization(void)
{
	char line[8192];
	bool found = false;
	FILE *f = fopen("/proc/cpuinfo", "re");

	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f))
		found = strncmp(line, "flags", 5) == 0 && (strstr(line, " vmx") || strstr(line, " svm"));
	(void)fclose(f);
	return found;
}

static int open_device(const char *path, struct doctor_report *report)
{
	static const char title[] = "KVM device";
	struct stat st;
	int fd;

	if (stat(path, &st) != 0) {
		doctor_add(report, "device", title, DOCTOR_FAIL,
			cpu_has_virtualization() ? REMEDY_NO_DEVICE : REMEDY_NO_HARDWARE, "%s: %s", path,
			strerror(errno));
		return -1;
	}
	if (!S_ISCHR(st.st_mode)) {
		doctor_add(report, "device", title, DOCTOR_FAIL, REMEDY_NOT_KVM, "%s is not a device", path);
		return -1;
	}
	doctor_add(report, "device", title, DOCTOR_OK, NULL, "%s", path);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		doctor_add(report, "permission", "permission to use it", DOCTOR_OK, NULL,
			"opened for reading and writing");
	else
		doctor_add(report, "permission", "permission to use it", DOCTOR_FAIL,
			errno == ENODEV || errno == ENXIO ? REMEDY_NO_DEVICE : REMEDY_PERMISSION,
			"%s (mode %04o, owner %u:%u)", strerror(errno), st.st_mode & 07777U, st.st_uid, st.st_gid);
	return fd;
}

bool doctor_check_host(const char *path, struct doctor_report *report)
{
	AUTO_FD int fd = open_device(path, report);
	char missing[150] = "";
	int version;

	if (fd < 0)
		return false;
	version = ioctl(fd, KVM_GET_API_VERSION, 0);
	if (version != KVM_API_VERSION) {
		if (version < 0)
			doctor_add(report, "api", "KVM API version", DOCTOR_FAIL, REMEDY_NOT_KVM,
				"%s does not answer as KVM: %s", path, strerror(errno));
		else
			doctor_add(report, "api", "KVM API version", DOCTOR_FAIL, REMEDY_OLD_KERNEL, "%d, needed is %d",
				version, KVM_API_VERSION);
		return false;
	}
	doctor_add(report, "api", "KVM API version", DOCTOR_OK, NULL, "%d", version);

	for (size_t i = 0; i < ARRAY_SIZE(capabilities); i++) {
		size_t used = strlen(missing);

		if (ioctl(fd, KVM_CHECK_EXTENSION, capabilities[i].number) <= 0)
			snprintf(missing + used, sizeof(missing) - used, " %s (%s)", capabilities[i].name,
				capabilities[i].reason);
	}
	if (missing[0])
		doctor_add(report, "capabilities", "KVM capabilities", DOCTOR_FAIL, REMEDY_OLD_KERNEL, "missing:%s",
			missing);
	else
		doctor_add(report, "capabilities", "KVM capabilities", DOCTOR_OK, NULL, "all %zu present",
			ARRAY_SIZE(capabilities));
	if (!cpu_has_virtualization())
		doctor_add(report, "hardware", "VMX or SVM", DOCTOR_WARN, NULL,
			"/proc/cpuinfo shows neither: this KVM does not use hardware virtualization");
	else
		doctor_add(report, "hardware", "VMX or SVM", DOCTOR_OK, NULL, "shown in /proc/cpuinfo");
	return true;
}
