/*
 * A hypervisor for the agent itself: ENTER_L2 runs the rest of it as a guest of its own (L2), by SVM or by VMX, and LEAVE_L2
 * goes back. L2 shares L1's memory, page tables, stack and mailbox, and rings the doorbell by itself: only the hypercall that
 * ends it comes to L1. It lives in the pages of the trace, which the agent has no other use for.
 */
#define NESTED_CONTROL TRACE_FROM_MAILBOX            /* VMCB; VMXON region */
#define NESTED_HOST (TRACE_FROM_MAILBOX + 0x1000)    /* SVM's save area for the host; VMCS */
#define NESTED_BITMAP (TRACE_FROM_MAILBOX + 0x2000)  /* VMX's MSR bitmap: no MSR leads to L1 */

#define MSR_EFER 0xc0000080
#define EFER_SVME_BIT 12
#define MSR_VM_HSAVE_PA 0xc0010117

/* Offsets into the VMCB: AMD64 Architecture Programmer's Manual, volume 2, appendix B. */
#define VMCB_INTERCEPT3 0x0c /* bit 31: shutdown */
#define VMCB_INTERCEPT4 0x10 /* bit 0: VMRUN, which has to be there; bit 1: VMMCALL */
#define VMCB_TSC_OFFSET 0x50
#define VMCB_ASID 0x58
#define VMCB_EXIT_CODE 0x70
#define VMCB_ES 0x400
#define VMCB_CS 0x410
#define VMCB_SS 0x420
#define VMCB_DS 0x430
#define VMCB_GDTR 0x460
#define VMCB_IDTR 0x480
#define VMCB_EFER 0x4d0
#define VMCB_CR4 0x548
#define VMCB_CR3 0x550
#define VMCB_CR0 0x558
#define VMCB_DR7 0x560
#define VMCB_DR6 0x568
#define VMCB_RFLAGS 0x570
#define VMCB_RIP 0x578
#define VMCB_RSP 0x5d8

#define MSR_FEATURE_CONTROL 0x3a
#define MSR_VMX_BASIC 0x480
#define VMX_BASIC_TRUE_BIT (55 - 32)
#define CR4_VMXE_BIT 13

/* Fields of the VMCS: Intel SDM, volume 3, appendix B. */
#define VMCS_MSR_BITMAP 0x2004
#define VMCS_TSC_OFFSET 0x2010
#define VMCS_ERROR 0x4400
#define VMCS_EXIT_REASON 0x4402

/* The pages of a hypervisor, zeroed. Uses RAX, RCX. */
.macro CLEAR_NESTED
    pushq %rdi
    addq $NESTED_CONTROL, %rdi
    xorl %eax, %eax
    movl $(3 * 4096 / 8), %ecx
    rep stosq
    popq %rdi
.endm

/* R8 = the base of GDTR or IDTR, R9 = its limit, by the instruction that stores it. */
.macro TABLE store
    subq $16, %rsp
    \store (%rsp)
    movq 2(%rsp), %r8
    movzwl (%rsp), %r9d
    addq $16, %rsp
.endm

.macro VMCB_SEGMENT at, selector, attributes
    movl $(\attributes << 16 | \selector), \at(%rsi)
    movl $-1, (\at + 4)(%rsi)
.endm

/* A field from a register, or from a constant, which is extended by its sign. Uses RAX, RDX. */
.macro VMCS_WRITE field, value
    movl $\field, %edx
    movq \value, %rax
    vmwrite %rax, %rdx
.endm

/* A field of controls: what has to be set by the MSR that says so, and \wanted. R10D is 12 where the "true" MSRs exist. */
.macro VMCS_CONTROL field, msr, wanted
    leal \msr(%r10), %ecx
    rdmsr
    orl $\wanted, %eax
    movl $\field, %edx
    vmwrite %rax, %rdx
.endm

/* RESULT0: 0 in L2, else why there is none: the VMCB's exit code, or VMX's error, or -1 where it has none. */
enter_l2:
    CLEAR_NESTED
    cmpl $0, BOX(MAILBOX_ARGUMENT1)
    je enter_vmx

    movl $MSR_EFER, %ecx
    rdmsr
    btsl $EFER_SVME_BIT, %eax
    wrmsr
    leaq NESTED_CONTROL(%rdi), %rsi
    movl %eax, VMCB_EFER(%rsi)
    leaq NESTED_HOST(%rdi), %rax
    xorl %edx, %edx
    movl $MSR_VM_HSAVE_PA, %ecx
    wrmsr
    movl $0x80000000, VMCB_INTERCEPT3(%rsi)
    movl $3, VMCB_INTERCEPT4(%rsi)
    movq BOX(MAILBOX_ARGUMENT0), %rax
    movq %rax, VMCB_TSC_OFFSET(%rsi)
    movl $1, VMCB_ASID(%rsi)
    VMCB_SEGMENT VMCB_CS, 0x08, 0xa9b
    .irp at, VMCB_ES, VMCB_SS, VMCB_DS
    VMCB_SEGMENT \at, 0x10, 0xc93
    .endr
    TABLE sgdt
    movl %r9d, (VMCB_GDTR + 4)(%rsi)
    movq %r8, (VMCB_GDTR + 8)(%rsi)
    TABLE sidt
    movl %r9d, (VMCB_IDTR + 4)(%rsi)
    movq %r8, (VMCB_IDTR + 8)(%rsi)
    movq %cr4, %rax
    movq %rax, VMCB_CR4(%rsi)
    movq %cr3, %rax
    movq %rax, VMCB_CR3(%rsi)
    movq %cr0, %rax
    movq %rax, VMCB_CR0(%rsi)
    movl $0x400, VMCB_DR7(%rsi)
    movl $0xffff0ff0, VMCB_DR6(%rsi)
    movl $2, VMCB_RFLAGS(%rsi)
    leaq in_l2(%rip), %rax
    movq %rax, VMCB_RIP(%rsi)
    movq %rbp, VMCB_RSP(%rsi)
    movq %rsi, %rax
    vmrun %rax
    /* L1 again, with its RAX and RSP. */
    stgi
    movq VMCB_EXIT_CODE(%rax), %rax
    jmp nested_result

in_l2:
    xorl %eax, %eax
nested_result:
    movq %rax, BOX(MAILBOX_RESULT0)
    movl BOX(MAILBOX_REQUEST), %eax
    subl $REQUEST_ENTER_L2, %eax
    cmpl $(REQUEST_LEAVE_L2 - REQUEST_ENTER_L2), %eax
    jbe done
    /* L2 was to answer another request: L1 must not seem to be it. */
    movl $STATUS_LEFT_L2, BOX(MAILBOX_STATUS)
    jmp bell

/* Only L2 gets an answer: L1's own hypercall comes back, and the request is unknown. */
leave_l2:
    cmpl $0, BOX(MAILBOX_ARGUMENT1)
    je 1f
    movl $-1, %eax
    vmmcall
    jmp unknown
1:  movl $-1, %eax
    vmcall
    jmp unknown

enter_vmx:
    movl $MSR_FEATURE_CONTROL, %ecx
    rdmsr
    testl $1, %eax
    jnz 1f
    orl $5, %eax
    wrmsr
1:  movq %cr4, %rax
    btsq $CR4_VMXE_BIT, %rax
    movq %rax, %cr4
    movq %cr0, %rax
    orq $0x20, %rax
    movq %rax, %cr0
    movl $MSR_VMX_BASIC, %ecx
    rdmsr
    xorl %r10d, %r10d
    btl $VMX_BASIC_TRUE_BIT, %edx
    jnc 1f
    movl $12, %r10d
1:  movl %eax, NESTED_CONTROL(%rdi)
    movl %eax, NESTED_HOST(%rdi)
    leaq NESTED_CONTROL(%rdi), %rax
    pushq %rax
    vmxon (%rsp)
    jbe vmx_refused
    addq $(NESTED_HOST - NESTED_CONTROL), (%rsp)
    vmclear (%rsp)
    jbe vmx_off
    vmptrld (%rsp)
    jbe vmx_off
    movq %rbp, %rsp
    VMCS_CONTROL 0x4000, 0x481, 0
    /* TSC offsetting, MSR bitmaps. */
    VMCS_CONTROL 0x4002, 0x482, 0x10000008
    /* 64-bit host; 64-bit guest. */
    VMCS_CONTROL 0x400c, 0x483, 0x200
    VMCS_CONTROL 0x4012, 0x484, 0x200
    leaq vmcs_table(%rip), %rsi
2:  movl (%rsi), %edx
    testl %edx, %edx
    jz 3f
    movslq 4(%rsi), %rax
    vmwrite %rax, %rdx
    addq $8, %rsi
    jmp 2b
3:  VMCS_WRITE VMCS_TSC_OFFSET, BOX(MAILBOX_ARGUMENT0)
    leaq NESTED_BITMAP(%rdi), %rsi
    VMCS_WRITE VMCS_MSR_BITMAP, %rsi
    /* CR0, CR3, CR4; guest, then host. */
    movq %cr0, %rsi
    VMCS_WRITE 0x6800, %rsi
    VMCS_WRITE 0x6c00, %rsi
    movq %cr3, %rsi
    VMCS_WRITE 0x6802, %rsi
    VMCS_WRITE 0x6c02, %rsi
    movq %cr4, %rsi
    VMCS_WRITE 0x6804, %rsi
    VMCS_WRITE 0x6c04, %rsi
    /* The TSS stands 0x80 bytes into the page whose end the stack is. */
    leaq -0xf80(%rbp), %rsi
    VMCS_WRITE 0x6814, %rsi
    VMCS_WRITE 0x6c0a, %rsi
    TABLE sgdt
    VMCS_WRITE 0x6816, %r8
    VMCS_WRITE 0x6c0c, %r8
    VMCS_WRITE 0x4810, %r9
    TABLE sidt
    VMCS_WRITE 0x6818, %r8
    VMCS_WRITE 0x6c0e, %r8
    VMCS_WRITE 0x4812, %r9
    VMCS_WRITE 0x681c, %rbp
    VMCS_WRITE 0x6c14, %rbp
    leaq in_l2(%rip), %rsi
    VMCS_WRITE 0x681e, %rsi
    leaq vmx_left(%rip), %rsi
    VMCS_WRITE 0x6c16, %rsi
    vmlaunch
    movl $VMCS_ERROR, %edx
    jmp 4f
vmx_left:
    movl $VMCS_EXIT_REASON, %edx
4:  movq $-1, %rax
    vmread %rdx, %rax
    vmxoff
    jmp nested_result
vmx_off:
    vmxoff
vmx_refused:
    movq %rbp, %rsp
    movq $-1, %rax
    jmp nested_result

    .balign 4
/* Fields and their values: selectors, limits, access rights, and what else is no address. */
vmcs_table:
    .irp field, 0x800, 0x804, 0x806, 0x808, 0x80a, 0xc00, 0xc04, 0xc06
    .long \field, 0x10
    .endr
    .long 0x802, 0x08, 0xc02, 0x08, 0x80e, 0x28, 0xc0c, 0x28
    .irp field, 0x4800, 0x4802, 0x4804, 0x4806, 0x4808, 0x480a
    .long \field, -1
    .endr
    .long 0x480c, 0xffff, 0x480e, 0x67
    .irp field, 0x4814, 0x4818, 0x481a, 0x481c, 0x481e
    .long \field, 0xc093
    .endr
    .long 0x4816, 0xa09b, 0x4820, 0x10000, 0x4822, 0x8b
    /* Link pointer; DR7; RFLAGS. */
    .long 0x2800, -1, 0x681a, 0x400, 0x6820, 2
    .long 0
