/*
 * The guest for any VMM: entered in real, protected or long mode, it starts all vCPUs, and each registers its clock record and
 * reads it in ring 3 without pause. vCPU 0 answers requests on COM1 besides. README.md has the requests and the answers.
 *
 * It runs at VMM_BASE whatever the address that the linker gave it, so addresses are AT(label).
 */
#include "long.h"
#include "include/vmm.h"

#define AT(label) (label - guest_vmm_begin + VMM_BASE)

/* What all vCPUs share. */
#define SHARED_GENERATION (VMM_SHARED + 0x00) /* counts the questions to all vCPUs */
#define SHARED_REQUEST (VMM_SHARED + 0x08)    /* the one of now */
#define SHARED_ONLINE (VMM_SHARED + 0x10)     /* a bit for each vCPU that runs */
#define SHARED_POLL (VMM_SHARED + 0x18)       /* the TSC at which vCPU 0 looks at COM1 again */
#define SHARED_ASKED (VMM_SHARED + 0x20)      /* the TSC at which vCPU 0 asked */
#define SHARED_WALL_FAULT (VMM_SHARED + 0x28) /* vector + 1 of the WRMSR of the wall clock, 0 for none */
#define SHARED_ANSWERS (VMM_SHARED + 0x100)   /* for each vCPU, 32 bytes: */
#define ANSWER_QUESTION 0x00                  /* the last question that it answered */
#define ANSWER_BANK 0x08                      /* where */
#define ANSWER_SEEN 0x10                      /* the TSC at which vCPU 0 saw that, 0 if it did not in time */

/* TSC cycles: between two looks at COM1; for a vCPU to answer; between INIT and start-up interrupt; for COM1 to send. */
#define POLL_CYCLES 0x40000
#define ANSWER_CYCLES 0x100000000
#define START_CYCLES 0x200000
#define SEND_CYCLES 0x100000000

/* What ring 3 asks of ring 0, in R8D. */
#define RING0_READ_MSR 0
#define RING0_WRITE_MSR 1
#define RING0_START 2
#define RING0_EJECT 3
#define RING0_TRIPLE_FAULT 4

/* An entry of the descriptor table at RBX. Uses RCX. */
.macro DESCRIPTOR at, value
    movabsq $\value, %rcx
    movq %rcx, \at(%rbx)
.endm

/* Has ring 0 do something: R9 = vector + 1 if it faulted, else 0. Uses RCX. */
.macro RING0 what
    movl $\what, %r8d
    call leave_ring3
.endm

/* EAX = this vCPU's number. */
.macro VCPU_NUMBER
    leal -VMM_BLOCKS(%esi), %eax
    shrl $VMM_BLOCK_SHIFT, %eax
.endm

/* Appends a character to the reply at R10. */
.macro PUT character
    movb $\character, (%r10)
    incq %r10
.endm

    .section .rodata
    .balign 16
    .globl guest_vmm_begin
    .globl guest_vmm_end

/* ---- From the VMM, in any mode. Each mode reads these bytes its own way, up to its jump ---- */
    .code32
guest_vmm_begin:
    cli
    cld
    /* In real mode: movw $0, %ax; jmp real. */
    .byte 0xb8, 0x00, 0x00, 0xeb, real - 1f
1:  xorl %eax, %eax
    /* In long mode a prefix of the next instruction; else incl %eax. */
    .byte 0x40
    testl %eax, %eax
    jnz entered
    /* ---- 64 bits, paged one to one ---- */
    .code64
    lgdt AT(boot_descriptors)
    ljmpl *AT(from_long)
    /* ---- 16 bits, anywhere below 1 MiB, IP 0 ---- */
    .code16
real:
    xorl %ebx, %ebx
    movw %cs, %bx
    shll $4, %ebx
    /* Stored, not added: a VMM that resets may enter here again. */
    leal boot_gdt - guest_vmm_begin(%ebx), %eax
    movl %eax, %cs:(real_gdtr + 2 - guest_vmm_begin)
    leal 1f - guest_vmm_begin(%ebx), %eax
    movl %eax, %cs:(from_real - guest_vmm_begin)
    lgdtl %cs:(real_gdtr - guest_vmm_begin)
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl *%cs:(from_real - guest_vmm_begin)
    .code32
1:  movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movl %ebx, %esi
    movl $VMM_BASE, %edi
    movl $(guest_vmm_end - guest_vmm_begin), %ecx
    rep movsb
    movl $AT(entered), %eax
    jmp *%eax
    .balign 4
real_gdtr:
    .word 0x1f
    .long 0
    .balign 4
from_real:
    .long 0
    .word 0x18
    .balign 4
from_long:
    .long AT(unpaged)
    .word 0x18
    /* For people who look into a dump. */
    .ascii "kvmclock guest"

/* ---- 32 bits: from the VMM, and from the trampoline ---- */
unpaged:
    movl %cr0, %eax
    andl $0x7fffffff, %eax
    movl %eax, %cr0
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
entered:
    xorl %eax, %eax
    movl $VMM_SHARED, %edi
    movl $0x400, %ecx
    rep stosl
    /* Page tables: 32 MiB one to one, and the local APIC, all open to ring 3. */
    movl $VMM_PAGE_TABLES, %edi
    movl $0x1800, %ecx
    rep stosl
    movl $(VMM_PAGE_TABLES + 0x1007), VMM_PAGE_TABLES
    movl $(VMM_PAGE_TABLES + 0x2007), VMM_PAGE_TABLES + 0x1000
    movl $(VMM_PAGE_TABLES + 0x3007), VMM_PAGE_TABLES + 0x1018
    movl $0xfee00087, VMM_PAGE_TABLES + 0x3000 + 503 * 8
    movl $(VMM_PAGE_TABLES + 0x2000), %edi
    movl $0x87, %eax
2:  movl %eax, (%edi)
    addl $8, %edi
    addl $0x200000, %eax
    cmpl $0x2000087, %eax
    jb 2b
    movl $AT(trampoline), %esi
    movl $VMM_TRAMPOLINE, %edi
    movl $(trampoline_end - trampoline), %ecx
    rep movsb
    /* CPU hot-plug registers: the modern ones, of ICH9 and of PIIX4. Without it QEMU refuses to unplug. */
    xorl %eax, %eax
    movw $0xcd8, %dx
    outl %eax, %dx
    movw $0xaf00, %dx
    outl %eax, %dx
    xorl %ebp, %ebp
to_long:
    lgdt AT(boot_descriptors)
    movl %cr4, %eax
    orl $0x20, %eax
    movl %eax, %cr4
    movl $VMM_PAGE_TABLES, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl %cr0, %eax
    andl $0x9fffffff, %eax
    orl $0x80000001, %eax
    movl %eax, %cr0
    ljmp $8, $AT(long_mode)

/* ---- 16 bits: a vCPU after its start-up interrupt, copied to VMM_TRAMPOLINE ---- */
    .code16
trampoline:
    cli
    lgdtl %cs:(gdtr - trampoline)
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $0x18, $(VMM_TRAMPOLINE + protected - trampoline)
    .code32
protected:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    cld
    movl $1, %eax
    cpuid
    movl %ebx, %ebp
    shrl $24, %ebp
    cmpl $VMM_VCPUS, %ebp
    jae 1f
    movl $AT(to_long), %eax
    jmp *%eax
1:  pause
    jmp 1b
gdtr:
    .word 0x1f
    .long AT(boot_gdt)
trampoline_end:

    .balign 8
boot_gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cf9b000000ffff
boot_descriptors:
    .word 0x1f
    .quad AT(boot_gdt)

/* ---- 64 bits, ring 0. EBP is the vCPU ---- */
    .code64
long_mode:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %ebp, %edi
    shlq $VMM_BLOCK_SHIFT, %rdi
    addq $VMM_BLOCKS, %rdi
    leaq VMM_SYSTEM + 0x1000(%rdi), %rbp
    movq %rbp, %rsp
    /* The system page: descriptors, the task state with the stack of ring 0, 32 gates. */
    leaq -0x1000(%rbp), %rbx
    movq $0, (%rbx)
    DESCRIPTOR 0x08, 0x00af9b000000ffff
    DESCRIPTOR 0x10, 0x00cf93000000ffff
    DESCRIPTOR 0x18, 0x00affb000000ffff
    DESCRIPTOR 0x20, 0x00cff3000000ffff
    leaq 0x80(%rbx), %rax
    movq %rax, %rdx
    shlq $16, %rdx
    movabsq $0x00008900000000e8, %rcx
    orq %rcx, %rdx
    movq %rdx, 0x28(%rbx)
    movq $0, 0x30(%rbx)
    movq $0, 0x80(%rbx)
    movq %rbp, 0x84(%rbx)
    /* Ports up to 0x3ff are ring 3's by the bitmap: not every backend keeps IOPL. */
    movl $0x680000, 0xe4(%rbx)
    leaq 0xe8(%rbx), %rdi
    xorl %eax, %eax
    movl $0x10, %ecx
    rep stosq
    movb $0xff, (%rdi)
    leaq faults(%rip), %rax
    leaq 0x200(%rbx), %rdx
1:  movw %ax, (%rdx)
    movw $8, 2(%rdx)
    movw $0x8e00, 4(%rdx)
    movl %eax, %ecx
    shrl $16, %ecx
    movw %cx, 6(%rdx)
    movq $0, 8(%rdx)
    addq $16, %rdx
    addq $FAULT_STUB_SIZE, %rax
    leaq 0x400(%rbx), %rcx
    cmpq %rcx, %rdx
    jb 1b
    subq $16, %rsp
    movw $0x37, 6(%rsp)
    movq %rbx, 8(%rsp)
    lgdt 6(%rsp)
    leaq 0x200(%rbx), %rdx
    movw $0x1ff, 6(%rsp)
    movq %rdx, 8(%rsp)
    lidt 6(%rsp)
    addq $16, %rsp
    movl $0x28, %eax
    ltr %ax
    leaq VMM_RECORD - VMM_SYSTEM - 0x1000(%rbp), %rsi
    leaq -VMM_SYSTEM - 0x1000(%rbp), %rdi
    xorl %r13d, %r13d
    xorl %r14d, %r14d
    ENTER_RING3 begin

    FAULT_STUBS

fault:
    leaq leave_ring3(%rip), %r9
    cmpq %r9, 0x10(%rsp)
    je service
    leaq read_msr(%rip), %r9
    cmpq %r9, 0x10(%rsp)
    je msr_faulted
    leaq write_msr(%rip), %r9
    cmpq %r9, 0x10(%rsp)
    je msr_faulted
    /* Nobody expects this one: said on COM1, and the vCPU does nothing more. */
    movl $VMM_REPLY, %r10d
    PUT '!'
    VCPU_NUMBER
    call put_number
    .irp at, 0x00, 0x08, 0x10
    movq \at(%rsp), %rax
    call put_number
    .endr
    call send_reply
1:  pause
    jmp 1b

service:
    addq $2, 0x10(%rsp)
    xorl %r9d, %r9d
    cmpl $RING0_WRITE_MSR, %r8d
    je write_msr
    jb read_msr
    cmpl $RING0_START, %r8d
    je start_vcpus
    cmpl $RING0_EJECT, %r8d
    je eject
    /* No interrupt table: the next exception resets the machine. */
    pushq $0
    pushq $0
    lidt (%rsp)
    int3
read_msr:
    rdmsr
    jmp served
write_msr:
    wrmsr
served:
    addq $0x10, %rsp
    iretq
msr_faulted:
    movq (%rsp), %r9
    incq %r9
    movq 0x28(%rsp), %rsp
    jmp served

/* INIT, and twice the start-up interrupt, to every vCPU that does not run. */
start_vcpus:
    .irp command, 0x4500, 0x4600 + (VMM_TRAMPOLINE >> 12), 0x4600 + (VMM_TRAMPOLINE >> 12)
    movl $1, %ecx
1:  btl %ecx, SHARED_ONLINE
    jc 2f
    movl %ecx, %eax
    shll $24, %eax
    movl $0xfee00310, %edx
    movl %eax, (%rdx)
    movl $0xfee00300, %edx
    movl $(\command), (%rdx)
2:  incl %ecx
    cmpl $VMM_VCPUS, %ecx
    jb 1b
    READ_TSC
    movq %rdx, %rcx
3:  pause
    READ_TSC
    subq %rcx, %rdx
    cmpq $START_CYCLES, %rdx
    jb 3b
    .endr
    jmp served

/* ACPI's eject of the last vCPU, by the registers of ICH9 and of PIIX4 (QEMU, docs/specs/acpi_cpu_hotplug). */
eject:
    bsrl SHARED_ONLINE, %ecx
    jz 1f
    testl %ecx, %ecx
    jz 1f
    lock btrl %ecx, SHARED_ONLINE
    .irp port, 0xcd8, 0xaf00
    movl $\port, %edx
    xorl %eax, %eax
    outl %eax, %dx
    movl %ecx, %eax
    outl %eax, %dx
    addl $4, %edx
    movb $8, %al
    outb %al, %dx
    .endr
1:  jmp served

/* ---- Ring 3 ---- */
leave_ring3:
    ud2
    ret

/* Appends a blank and RAX, hexadecimal, to the reply at R10. Uses RCX, RDX. */
put_number:
    PUT ' '
    xorl %ecx, %ecx
    bsrq %rax, %rcx
    jnz 1f
    xorl %ecx, %ecx
1:  andl $0x3c, %ecx
2:  movq %rax, %rdx
    shrq %cl, %rdx
    andl $15, %edx
    cmpl $10, %edx
    jb 3f
    addl $('a' - '0' - 10), %edx
3:  addl $'0', %edx
    movb %dl, (%r10)
    incq %r10
    subl $4, %ecx
    jns 2b
    ret

/* Waits until COM1 has sent all that it was given, for a while. EDX = its port. Uses RAX, RBX, RDX. */
wait_for_com1:
    READ_TSC
    movq %rdx, %rbx
1:  movl $(VMM_COM1 + 5), %edx
    inb %dx, %al
    testb $0x20, %al
    jnz 2f
    READ_TSC
    subq %rbx, %rdx
    movabsq $SEND_CYCLES, %rax
    cmpq %rax, %rdx
    jb 1b
2:  movl $VMM_COM1, %edx
    ret

/* The reply up to R10, and a line end, as much at a time as the FIFO of COM1 holds. Uses RAX, RBX, RCX, RDX. */
send_reply:
    PUT '\n'
    pushq %rsi
    movl $VMM_REPLY, %esi
1:  call wait_for_com1
    movq %r10, %rcx
    subq %rsi, %rcx
    jz 3f
    cmpq $16, %rcx
    jb 2f
    movl $16, %ecx
2:  rep outsb
    jmp 1b
3:  popq %rsi
    ret

/* An empty bank at RDI, R15 its counts. Uses RAX, RBX, RCX. */
clear_bank:
    movq %rdi, %rbx
    xorl %eax, %eax
    movl $(0x300 / 8), %ecx
    rep stosq
    movq %rbx, %rdi
    leaq MAILBOX_LOOP(%rdi), %r15
    TRACE_BEGIN
    ret

/* Registers the record by the MSR in ECX. */
register:
    leal 1(%esi), %eax
    xorl %edx, %edx
    RING0 RING0_WRITE_MSR
    movq %r9, VMM_FAULT(%rdi)
    ret

begin:
    call clear_bank
    movl $0x4b564d01, %ecx
    xorl %eax, %eax
    xorl %edx, %edx
    RING0 RING0_READ_MSR
    shlq $32, %rdx
    orq %rdx, %rax
    movq %rax, VMM_FOUND(%rdi)
    movl $0x4b564d01, %ecx
    call register
    movq SHARED_GENERATION, %rax
    movq %rax, MAILBOX_ARGUMENT0(%rdi)
    VCPU_NUMBER
    lock btsl %eax, SHARED_ONLINE
    testl %eax, %eax
    jnz again
    RING0 RING0_START
    /* FIFOs on and empty. QEMU stops asking for input while a byte waits; only a read has it ask again. */
    movl $(VMM_COM1 + 2), %edx
    movb $7, %al
    outb %al, %dx
    movl $VMM_COM1, %edx
    inb %dx, %al
greet:
    movl $VMM_REPLY, %r10d
    leaq hello(%rip), %rbx
1:  movb (%rbx), %al
    movb %al, (%r10)
    incq %r10
    incq %rbx
    cmpb $'.', %al
    jne 1b
    call send_reply
    xorl %r14d, %r14d

again:
    READ_RECORD never_even, lfence
    TRACE_READING
    COUNT_UNSTABLE
    CLOCK_VALUE
    cmpq $0, LOOP_READS(%r15)
    jne 2f
    STORE_READING LOOP_FIRST
2:  JUDGE_STEP 0
    testq %r14, %r14
    jz 4f
    movq %rdx, %rbx
    subq %r14, %rbx
    jc 3f
    cmpq VMM_GAP(%rdi), %rbx
    jbe 4f
    movq %rbx, VMM_GAP(%rdi)
    jmp 4f
3:  incq VMM_TSC_BACK(%rdi)
4:  movq %rax, %r13
    movq %rdx, %r14
    incq LOOP_READS(%r15)
dispatch:
    cmpl $0, MAILBOX_STATUS(%rdi)
    jne answer
    VCPU_NUMBER
    testl %eax, %eax
    jz poll
    movq SHARED_GENERATION, %rbx
    cmpq MAILBOX_ARGUMENT0(%rdi), %rbx
    je again
    movq %rbx, MAILBOX_ARGUMENT0(%rdi)
carry_out:
    movl $1, MAILBOX_STATUS(%rdi)
    movl SHARED_REQUEST, %eax
    movl $0x4b564d01, %ecx
    cmpb $'w', %al
    je 1f
    movl $0x12, %ecx
    cmpb $'o', %al
    je 1f
    cmpb $'c', %al
    jne again
    andb $0xfd, 0x1d(%rsi)
    jmp again
1:  call register
    jmp again

never_even:
    incq VMM_NEVER_EVEN(%rdi)
    READ_TSC
    movq 0x00(%rsi), %r8
    movq 0x08(%rsi), %r9
    movq 0x10(%rsi), %r10
    movl 0x18(%rsi), %r11d
    movl 0x1c(%rsi), %r12d
    jmp dispatch

/* Every vCPU: the reading in the registers is the answer; what was seen until now stays in this bank. */
answer:
    STORE_READING LOOP_LAST
    VCPU_NUMBER
    movq %rdi, %r11
    movq MAILBOX_ARGUMENT0(%rdi), %r12
    xorq $VMM_BANK, %rdi
    movl %eax, %r9d
    call clear_bank
    movq %r12, MAILBOX_ARGUMENT0(%rdi)
    movq VMM_FAULT(%r11), %rbx
    movq %rbx, VMM_FAULT(%rdi)
    movq VMM_FOUND(%r11), %rbx
    movq %rbx, VMM_FOUND(%rdi)
    shll $5, %r9d
    movq %r11, SHARED_ANSWERS + ANSWER_BANK(%r9)
    movq %r12, SHARED_ANSWERS + ANSWER_QUESTION(%r9)
    testl %r9d, %r9d
    jz reply
    jmp again

/* vCPU 0 only, from here on. */
poll:
    movq %rdx, %rbx
    subq SHARED_POLL, %rbx
    cmpq $POLL_CYCLES, %rbx
    jb again
    movq %rdx, SHARED_POLL
    movl $(VMM_COM1 + 5), %edx
    inb %dx, %al
    testb $1, %al
    jz again
    movl $VMM_COM1, %edx
    inb %dx, %al
    movzbl %al, %eax
    cmpb $' ', %al
    jbe again
    cmpb $'h', %al
    je greet
    cmpb $'e', %al
    jne 1f
    RING0 RING0_EJECT
    movl $'e', %eax
1:  cmpb $'n', %al
    jne 2f
    RING0 RING0_START
    movl $'n', %eax
2:  cmpb $'x', %al
    jne 3f
    RING0 RING0_TRIPLE_FAULT
3:  movl $0x4b564d00, %ecx
    cmpb $'k', %al
    je 4f
    movl $0x11, %ecx
    cmpb $'l', %al
    jne 5f
4:  movl %eax, SHARED_REQUEST
    leal VMM_WALL - VMM_RECORD(%esi), %eax
    xorl %edx, %edx
    RING0 RING0_WRITE_MSR
    movq %r9, SHARED_WALL_FAULT
    movl SHARED_REQUEST, %eax
5:  movl %eax, SHARED_REQUEST
    READ_TSC
    movq %rdx, SHARED_ASKED
    lock incq SHARED_GENERATION
    movq SHARED_GENERATION, %rbx
    movq %rbx, MAILBOX_ARGUMENT0(%rdi)
    jmp carry_out

reply:
    call wait_for_com1
    movb $'=', %al
    outb %al, %dx
    /* Every vCPU has a while to answer. */
    xorl %r11d, %r11d
1:  btl %r11d, SHARED_ONLINE
    jnc 4f
    movl %r11d, %r8d
    shll $5, %r8d
    movq $0, SHARED_ANSWERS + ANSWER_SEEN(%r8)
    READ_TSC
    movq %rdx, %rcx
2:  movq SHARED_ANSWERS + ANSWER_QUESTION(%r8), %rbx
    cmpq SHARED_GENERATION, %rbx
    je 3f
    pause
    READ_TSC
    subq %rcx, %rdx
    movabsq $ANSWER_CYCLES, %rbx
    cmpq %rbx, %rdx
    jb 2b
    jmp 4f
3:  lfence
    READ_TSC
    movq %rdx, SHARED_ANSWERS + ANSWER_SEEN(%r8)
4:  incl %r11d
    cmpl $VMM_VCPUS, %r11d
    jb 1b
    call wait_for_com1
    movb $'+', %al
    outb %al, %dx
    movl $VMM_REPLY, %r10d
    PUT '\n'
    movl SHARED_REQUEST, %eax
    cmpb $'i', %al
    je identify
    cmpb $'m', %al
    je msrs
    cmpb $'k', %al
    je wall
    cmpb $'l', %al
    je wall
vcpus:
    xorl %r11d, %r11d
1:  btl %r11d, SHARED_ONLINE
    jnc 7f
    movl %r11d, %r8d
    shll $5, %r8d
    cmpq $0, SHARED_ANSWERS + ANSWER_SEEN(%r8)
    jne 3f
    PUT 'a'
    movl %r11d, %eax
    call put_number
    PUT '\n'
    jmp 7f
3:  movq SHARED_ANSWERS + ANSWER_BANK(%r8), %r9
    PUT 'v'
    movl %r11d, %eax
    call put_number
    movq SHARED_ASKED, %rax
    call put_number
    movq SHARED_ANSWERS + ANSWER_SEEN(%r8), %rax
    call put_number
    xorl %ebx, %ebx
4:  movq MAILBOX_LOOP(%r9,%rbx,8), %rax
    call put_number
    incl %ebx
    cmpl $VMM_WORDS, %ebx
    jb 4b
    PUT '\n'
    /* The stretches: the first ones, and the last one. */
    leaq TRACE_FROM_MAILBOX(%r9), %r8
    movq MAILBOX_LOOP + LOOP_STRETCHES(%r9), %r12
    cmpq $VMM_STRETCHES, %r12
    jb 5f
    movl $VMM_STRETCHES, %r12d
5:  testq %r12, %r12
    jz 7f
    cmpq $1, %r12
    jne 6f
    movq MAILBOX_RESULT1(%r9), %r8
6:  PUT 's'
    .irp at, 0x00, 0x08, 0x10, 0x18, 0x20, 0x28, 0x30
    movq \at(%r8), %rax
    call put_number
    .endr
    PUT '\n'
    addq $STRETCH_SIZE, %r8
    decq %r12
    jmp 5b
7:  incl %r11d
    cmpl $VMM_VCPUS, %r11d
    jb 1b
    PUT '.'
    call send_reply
    xorl %r14d, %r14d
    jmp again

/* CPUID: leaf and the four registers. */
identify:
    leaq leaves(%rip), %r11
1:  movl (%r11), %eax
    testl %eax, %eax
    jz vcpus
    PUT 'c'
    call put_number
    movl (%r11), %eax
    xorl %ecx, %ecx
    cpuid
    movl %ecx, %r8d
    movl %edx, %r9d
    movl %eax, %eax
    call put_number
    movl %ebx, %eax
    call put_number
    movl %r8d, %eax
    call put_number
    movl %r9d, %eax
    call put_number
    PUT '\n'
    addq $4, %r11
    jmp 1b

/* MSRs: index, value, and vector + 1 where reading it faulted. */
msrs:
    leaq indices(%rip), %r11
1:  movl (%r11), %eax
    testl %eax, %eax
    jz vcpus
    PUT 'm'
    call put_number
    movl (%r11), %ecx
    xorl %eax, %eax
    xorl %edx, %edx
    RING0 RING0_READ_MSR
    shlq $32, %rdx
    orq %rdx, %rax
    call put_number
    movq %r9, %rax
    call put_number
    PUT '\n'
    addq $4, %r11
    jmp 1b

/* The wall clock: vector + 1 of the WRMSR, version, seconds, nanoseconds. */
wall:
    PUT 'k'
    movq SHARED_WALL_FAULT, %rax
    call put_number
    .irp at, 0, 4, 8
    movl (VMM_WALL - VMM_RECORD + \at)(%rsi), %eax
    call put_number
    .endr
    PUT '\n'
    jmp vcpus

    .balign 4
leaves:
    .long 1, 0x40000000, 0x40000001, 0x40000100, 0x40000101, 0x80000007, 0
indices:
    .long 0x10, 0x11, 0x12, 0x3b, 0x4b564d00, 0x4b564d01, 0
hello:
    .ascii "kvmclock guest 1\n."
guest_vmm_end:

    .section .note.GNU-stack, "", @progbits
