// SPDX-License-Identifier: Apache-2.0
/*
 * The smallest proof that a host's KVM runs guests: one VM, one vCPU in real mode, five instructions. Prints
 * "api 12, guest said 42" and ends with 0, or says which step failed and ends with 1.
 *
 * With an argument N it does that N times and prints the nanoseconds of the monotonic clock that took: the tests of
 * virtual time compare this figure between runs.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static const uint8_t guest_code[] = {
	0xb0, 40,	  /* mov al, 40 */
	0x04, 2,	  /* add al, 2 */
	0xba, 0xf8, 0x03, /* mov dx, 0x3f8 */
	0xee,		  /* out dx, al */
	0xf4,		  /* hlt */
};

static int failed(const char *step)
{
	perror(step);
	exit(1);
}

static int run_guest(int kvm_fd)
{
	int said = -1;
	int vm_fd = ioctl(kvm_fd, KVM_CREATE_VM, 0);
	int size = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	void *ram = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (vm_fd < 0 || size < 0 || ram == MAP_FAILED)
		failed("create the VM");
	memcpy(ram, guest_code, sizeof(guest_code));
	struct kvm_userspace_memory_region region = { .memory_size = 4096, .userspace_addr = (uintptr_t)ram };
	if (ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &region) != 0)
		failed("give it memory");
	int vcpu_fd = ioctl(vm_fd, KVM_CREATE_VCPU, 0);
	struct kvm_run *run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd, 0);
	struct kvm_sregs sregs;
	struct kvm_regs regs = { .rflags = 2 };
	if (vcpu_fd < 0 || run == MAP_FAILED || ioctl(vcpu_fd, KVM_GET_SREGS, &sregs) != 0)
		failed("create the vCPU");
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	if (ioctl(vcpu_fd, KVM_SET_SREGS, &sregs) != 0 || ioctl(vcpu_fd, KVM_SET_REGS, &regs) != 0)
		failed("set its registers");
	for (;;) {
		if (ioctl(vcpu_fd, KVM_RUN, 0) != 0)
			failed("run it");
		if (run->exit_reason == KVM_EXIT_HLT)
			break;
		if (run->exit_reason != KVM_EXIT_IO) {
			fprintf(stderr, "unexpected exit %u\n", run->exit_reason);
			exit(1);
		}
		said = *((uint8_t *)run + run->io.data_offset);
	}
	munmap(run, (size_t)size);
	munmap(ram, 4096);
	close(vcpu_fd);
	close(vm_fd);
	return said;
}

int main(int argc, char **argv)
{
	int kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	struct timespec a, b;

	if (kvm_fd < 0)
		failed("open /dev/kvm");
	if (argc < 2) {
		printf("api %d, guest said %d\n", ioctl(kvm_fd, KVM_GET_API_VERSION, 0), run_guest(kvm_fd));
		return 0;
	}
	run_guest(kvm_fd); /* a warm-up */
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (int i = atoi(argv[1]); i > 0; i--)
		run_guest(kvm_fd);
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("%lld\n", (b.tv_sec - a.tv_sec) * 1000000000ll + b.tv_nsec - a.tv_nsec);
	return 0;
}
