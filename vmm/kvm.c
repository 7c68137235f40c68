/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/kvm.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/base/fd.h"
#include "vmm/layout.h"

/* A signal that stays pending would make KVM_CREATE_VM fail for ever: Firecracker met this under load (THREATS.md FC#5046). */
#define CREATE_VM_TRIES 16

static const struct required_cap {
	int cap;
	const char *name;
	const char *reason;
} required_caps[] = {
	{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY", "guest RAM is memory of this process"},
	{KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR", "real mode on Intel needs three pages outside guest RAM"},
	{KVM_CAP_SET_IDENTITY_MAP_ADDR, "KVM_CAP_SET_IDENTITY_MAP_ADDR", "and one page for its page table"},
	{KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP", "PIC, IOAPIC and local APICs live in the kernel"},
	{KVM_CAP_PIT2, "KVM_CAP_PIT2", "a guest without ACPI may have no other timer"},
	{KVM_CAP_IRQFD, "KVM_CAP_IRQFD", "devices raise interrupts through eventfds"},
	{KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD", "notifications of queues that the I/O thread alone serves need no exit"},
	{KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID", "the guest's CPUID is derived from what KVM supports"},
	{KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE", "secondary vCPUs wait for their start-up interrupt"},
	{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT", "a vCPU can be stopped without a race"},
};

static int check_caps(struct kvm *kvm, struct err *e)
{
	int page;

	for (size_t i = 0; i < ARRAY_SIZE(required_caps); i++) {
		const struct required_cap *c = &required_caps[i];

		if (ioctl(kvm->dev_fd, KVM_CHECK_EXTENSION, c->cap) <= 0)
			return err_set(e, -ENOTSUP, "The host's KVM lacks %s (%s). %s", c->name, c->reason, KVM_ADVICE);
	}
	kvm->has_tsc_deadline = ioctl(kvm->dev_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	kvm->has_coalesced_pio = ioctl(kvm->dev_fd, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_PIO) > 0;
	page = ioctl(kvm->dev_fd, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_MMIO);
	kvm->coalesced_page = page > 0 ? (uint32_t)page : 0;
	return 0;
}

int kvm_open(struct kvm *kvm, const char *path, struct err *e)
{
	int version, rc, size;

	kvm->vm_fd = -1;
	kvm->dev_fd = open(path, O_RDWR | O_CLOEXEC);
	if (kvm->dev_fd < 0) {
		const char *hint = errno == ENOENT ? "Is the kvm_intel or kvm_amd module loaded and virtualization switched on?"
				   : errno == EACCES ? "This user needs read and write permission, usually through the group kvm."
						     : "";
		char text[96];

		return err_set(e, -errno, "Cannot open %s: %s. %s%s%s", path, err_os_text(errno, text, sizeof(text)), hint,
			       *hint ? " " : "", KVM_ADVICE);
	}
	version = ioctl(kvm->dev_fd, KVM_GET_API_VERSION, 0);
	if (version != KVM_API_VERSION) {
		kvm_fini(kvm);
		return err_set(e, -ENOTSUP, "%s answers KVM API version %d, Mayfly needs %d. %s", path, version, KVM_API_VERSION,
			       KVM_ADVICE);
	}
	rc = check_caps(kvm, e);
	if (rc) {
		kvm_fini(kvm);
		return rc;
	}
	size = ioctl(kvm->dev_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size < (int)sizeof(struct kvm_run)) {
		kvm_fini(kvm);
		return err_set(e, -ENOTSUP, "%s reports a kvm_run area of %d bytes. %s", path, size, KVM_ADVICE);
	}
	kvm->run_size = (size_t)size;
	return 0;
}

int kvm_create_vm(struct kvm *kvm, struct err *e)
{
	uint64_t identity_map = LAYOUT_IDENTITY_MAP;
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY}; /* port 0x61 is answered in the kernel too */

	for (int i = 0; i < CREATE_VM_TRIES; i++) {
		kvm->vm_fd = ioctl(kvm->dev_fd, KVM_CREATE_VM, 0);
		if (kvm->vm_fd >= 0 || errno != EINTR)
			break;
	}
	if (kvm->vm_fd < 0)
		return err_sys(e, -errno, "KVM_CREATE_VM");
	if (ioctl(kvm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0)
		return err_sys(e, -errno, "KVM_SET_IDENTITY_MAP_ADDR");
	if (ioctl(kvm->vm_fd, KVM_SET_TSS_ADDR, LAYOUT_TSS) < 0)
		return err_sys(e, -errno, "KVM_SET_TSS_ADDR");
	if (ioctl(kvm->vm_fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return err_sys(e, -errno, "KVM_CREATE_IRQCHIP");
	if (ioctl(kvm->vm_fd, KVM_CREATE_PIT2, &pit) < 0)
		return err_sys(e, -errno, "KVM_CREATE_PIT2");
	return 0;
}

void kvm_fini(struct kvm *kvm)
{
	fd_close(&kvm->vm_fd);
	fd_close(&kvm->dev_fd);
}

int kvm_set_memory(struct kvm *kvm, const struct gmem *mem, bool log_dirty, struct err *e)
{
	for (uint32_t i = 0; i < mem->n_regions; i++) {
		struct kvm_userspace_memory_region slot = {
			.slot = i,
			.flags = log_dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0,
			.guest_phys_addr = mem->region[i].base.v,
			.memory_size = mem->region[i].size,
			.userspace_addr = (uintptr_t)mem->region[i].hva,
		};

		if (ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
			return err_sys(e, -errno, "KVM_SET_USER_MEMORY_REGION (slot %u, %llu bytes)", i,
				       (unsigned long long)slot.memory_size);
	}
	return 0;
}

int kvm_add_ioeventfd(struct kvm *kvm, gpa_t gpa, uint32_t datamatch, int fd, struct err *e)
{
	struct kvm_ioeventfd ioeventfd = {
		.addr = gpa.v,
		.len = sizeof(uint32_t),
		.datamatch = datamatch,
		.fd = fd,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
	};

	if (ioctl(kvm->vm_fd, KVM_IOEVENTFD, &ioeventfd) < 0)
		return err_sys(e, -errno, "KVM_IOEVENTFD (0x%llx)", (unsigned long long)gpa.v);
	return 0;
}

int kvm_supported_cpuid(const struct kvm *kvm, struct kvm_cpuid2 *table, uint32_t max)
{
	table->nent = max;
	if (ioctl(kvm->dev_fd, KVM_GET_SUPPORTED_CPUID, table) < 0)
		return -errno;
	return 0;
}
