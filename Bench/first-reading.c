/*
 * The bare C program beside which the Swift library is measured: from opening /dev/kvm to the first clock reading
 * in a guest, by the same requests and the same guest. Prints nanoseconds, one line for each of several machines.
 */
#define _GNU_SOURCE
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

#include "guest_images.h"

enum {
    MEMORY = 2 << 20,
    TABLES = 0x2000,
    IMAGE = 0x8000,
    SYSTEM = 0x20000,
    MAILBOX = 0x21000,
    RECORD = 0x22040,
    ENTRIES = 256,
};

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC_RAW, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int check(int result, const char *what) {
    if (result < 0) {
        perror(what);
        exit(69);
    }
    return result;
}

static void put(uint8_t *memory, uint64_t at, uint64_t value) { memcpy(memory + at, &value, 8); }

static struct kvm_segment segment(uint16_t selector, uint8_t type, int is_long) {
    return (struct kvm_segment){.limit = 0xffffffff, .selector = selector, .type = type, .present = 1,
                                .s = 1, .g = 1, .l = is_long, .db = !is_long};
}

/* The long-mode state that guest-images/README.md describes. */
static void boot(int vcpu, uint8_t *memory) {
    struct guest_image image = guest_image_agent_long();
    uint32_t entry, faults;
    memcpy(&entry, image.bytes + IMAGE_ENTRY, 4);
    memcpy(&faults, image.bytes + IMAGE_FAULTS, 4);
    uint64_t task = SYSTEM + 0x80;
    uint64_t table[] = {0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00affb000000ffff, 0x00cff3000000ffff,
                        0x0000890000000067 | (task & 0xffffff) << 16 | (task >> 24) << 56, 0};
    memcpy(memory + SYSTEM, table, sizeof table);
    put(memory, task + 4, SYSTEM + 0x1000);
    for (uint64_t vector = 0; vector < 32; vector++) {
        uint64_t stub = IMAGE + faults + FAULT_STUB_SIZE * vector;
        put(memory, SYSTEM + 0x200 + 16 * vector, (stub & 0xffff) | 8u << 16 | 0x8e00ull << 32);
    }
    put(memory, TABLES, TABLES + 0x1007);
    put(memory, TABLES + 0x1000, TABLES + 0x2007);
    for (uint64_t i = 0; i < 512; i++) put(memory, TABLES + 0x2000 + 8 * i, i << 21 | 0x87);

    struct kvm_sregs special;
    check(ioctl(vcpu, KVM_GET_SREGS, &special), "KVM_GET_SREGS");
    special.cs = segment(8, 11, 1);
    special.ds = special.es = special.fs = special.gs = special.ss = segment(16, 3, 0);
    special.gdt = (struct kvm_dtable){.base = SYSTEM, .limit = 0x37};
    special.idt = (struct kvm_dtable){.base = SYSTEM + 0x200, .limit = 32 * 16 - 1};
    special.tr = (struct kvm_segment){.base = task, .limit = 0x67, .selector = 0x28, .type = 11, .present = 1};
    special.ldt = (struct kvm_segment){.type = 2, .unusable = 1};
    special.cr0 = 0x80000011;
    special.cr3 = TABLES;
    special.cr4 = 0x20;
    special.efer = 0x500;
    check(ioctl(vcpu, KVM_SET_SREGS, &special), "KVM_SET_SREGS");
    struct kvm_regs registers = {.rip = IMAGE + entry, .rflags = 2, .rdi = MAILBOX,
                                 .rsp = SYSTEM + 0x1000, .rbp = SYSTEM + 0x1000};
    check(ioctl(vcpu, KVM_SET_REGS, &registers), "KVM_SET_REGS");
}

static void first_reading(void) {
    uint64_t began = now();
    int kvm = check(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
    if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) exit(69);
    int vm = check(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
    uint8_t *memory = mmap(0, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct kvm_userspace_memory_region region = {.memory_size = MEMORY, .userspace_addr = (uintptr_t)memory};
    check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
    struct guest_image image = guest_image_agent_long();
    memcpy(memory + IMAGE, image.bytes, image.size);
    int vcpu = check(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
    int size = check(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
    struct kvm_run *run = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    struct {
        struct kvm_cpuid2 head;
        struct kvm_cpuid_entry2 entries[ENTRIES];
    } *cpuid = calloc(1, sizeof *cpuid);
    cpuid->head.nent = ENTRIES;
    check(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid), "KVM_GET_SUPPORTED_CPUID");
    check(ioctl(vcpu, KVM_SET_CPUID2, cpuid), "KVM_SET_CPUID2");
    boot(vcpu, memory);

    uint32_t request = REQUEST_WRMSR_READ_CLOCK;
    memcpy(memory + MAILBOX + MAILBOX_REQUEST, &request, 4);
    put(memory, MAILBOX + MAILBOX_ARGUMENT0, 0x4b564d01);
    put(memory, MAILBOX + MAILBOX_ARGUMENT1, RECORD | 1);
    put(memory, MAILBOX + MAILBOX_ARGUMENT2, RECORD);
    check(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
    uint32_t status;
    memcpy(&status, memory + MAILBOX + MAILBOX_STATUS, 4);
    if (run->exit_reason != KVM_EXIT_IO || status != STATUS_DONE) {
        fprintf(stderr, "exit %u, status %u\n", run->exit_reason, status);
        exit(1);
    }
    printf("%llu\n", (unsigned long long)(now() - began));
    free(cpuid);
    munmap(run, size);
    close(vcpu);
    close(vm);
    munmap(memory, MEMORY);
    close(kvm);
}

int main(void) {
    for (int i = 0; i < 8; i++) first_reading();
    return 0;
}
