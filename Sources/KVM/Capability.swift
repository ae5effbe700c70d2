internal import CKVM

/// Something that a kernel may or may not have, to be asked for by `KVM_CHECK_EXTENSION`.
public struct Capability: RawRepresentable, Hashable, Sendable {
  public let rawValue: UInt32

  public init(rawValue: UInt32) {
    self.rawValue = rawValue
  }

  private init(_ number: Int32) {
    rawValue = UInt32(number)
  }

  /// The kernel's name, such as `KVM_CAP_ADJUST_CLOCK`; `nil` for a number without a name here.
  public var name: String? {
    Self.names[self]
  }

  /// Every capability with a name here, by number.
  public static let all: [Capability] = names.keys.sorted { $0.rawValue < $1.rawValue }
}

extension Capability: CustomStringConvertible {
  /// The kernel's name, or the number where there is none here.
  public var description: String {
    name ?? "capability \(rawValue)"
  }
}

extension Capability {
  /// The kernel can make the interrupt controllers; the kernel's name is `KVM_CAP_IRQCHIP`.
  public static let irqchip = Capability(KVM_CAP_IRQCHIP)

  /// Guest memory is memory of the process; the kernel's name is `KVM_CAP_USER_MEMORY`.
  public static let userMemory = Capability(KVM_CAP_USER_MEMORY)

  /// `VirtualMachine.setTSSAddress(_:)` is there; the kernel's name is `KVM_CAP_SET_TSS_ADDR`.
  public static let setTSSAddress = Capability(KVM_CAP_SET_TSS_ADDR)

  /// Supported CPUID leaves can be asked for; the kernel's name is `KVM_CAP_EXT_CPUID`.
  public static let extendedCPUID = Capability(KVM_CAP_EXT_CPUID)

  /// Guests have the paravirtual clock; the kernel's name is `KVM_CAP_CLOCKSOURCE`.
  public static let clocksource = Capability(KVM_CAP_CLOCKSOURCE)

  /// The recommended highest number of vCPUs; the kernel's name is `KVM_CAP_NR_VCPUS`.
  public static let recommendedVCPUs = Capability(KVM_CAP_NR_VCPUS)

  /// The highest number of memory slots; the kernel's name is `KVM_CAP_NR_MEMSLOTS`.
  public static let memorySlots = Capability(KVM_CAP_NR_MEMSLOTS)

  /// `VCPU.mpState()` is there; the kernel's name is `KVM_CAP_MP_STATE`.
  public static let mpState = Capability(KVM_CAP_MP_STATE)

  /// Changes to the process's mappings show in the guest; the kernel's name is `KVM_CAP_SYNC_MMU`.
  public static let synchronousMMU = Capability(KVM_CAP_SYNC_MMU)

  /// `VCPU.injectNMI()` is there; the kernel's name is `KVM_CAP_USER_NMI`.
  public static let userNMI = Capability(KVM_CAP_USER_NMI)

  /// `VCPU.setGuestDebug(_:debugRegisters:)` is there.
  ///
  /// The kernel's name is `KVM_CAP_SET_GUEST_DEBUG`.
  public static let setGuestDebug = Capability(KVM_CAP_SET_GUEST_DEBUG)

  /// `VirtualMachine.setIdentityMapAddress(_:)` is there.
  ///
  /// The kernel's name is `KVM_CAP_SET_IDENTITY_MAP_ADDR`.
  public static let setIdentityMapAddress = Capability(KVM_CAP_SET_IDENTITY_MAP_ADDR)

  /// The VM can be one of Xen's; the value is the set of `KVM_XEN_HVM_CONFIG_*` that it offers.
  ///
  /// The kernel's name is `KVM_CAP_XEN_HVM`.
  public static let xenHVM = Capability(KVM_CAP_XEN_HVM)

  /// The VM's clock can be read and set; the value is the set of known `ClockFlags`.
  ///
  /// The kernel's name is `KVM_CAP_ADJUST_CLOCK`.
  public static let adjustClock = Capability(KVM_CAP_ADJUST_CLOCK)

  /// Internal errors come with data; the kernel's name is `KVM_CAP_INTERNAL_ERROR_DATA`.
  public static let internalErrorData = Capability(KVM_CAP_INTERNAL_ERROR_DATA)

  /// `VCPU.events()` is there; the kernel's name is `KVM_CAP_VCPU_EVENTS`.
  public static let vcpuEvents = Capability(KVM_CAP_VCPU_EVENTS)

  /// `VCPU.events()` includes the interrupt shadow; the kernel's name is `KVM_CAP_INTR_SHADOW`.
  public static let interruptShadow = Capability(KVM_CAP_INTR_SHADOW)

  /// `VCPU.enableCapability(_:flags:arguments:)` is there.
  ///
  /// The kernel's name is `KVM_CAP_ENABLE_CAP`.
  public static let enableOnVCPU = Capability(KVM_CAP_ENABLE_CAP)

  /// The TSC's frequency can be set; the kernel's name is `KVM_CAP_TSC_CONTROL`.
  public static let tscControl = Capability(KVM_CAP_TSC_CONTROL)

  /// The TSC's frequency can be read; the kernel's name is `KVM_CAP_GET_TSC_KHZ`.
  public static let getTSCKHz = Capability(KVM_CAP_GET_TSC_KHZ)

  /// The highest number of vCPUs; the kernel's name is `KVM_CAP_MAX_VCPUS`.
  public static let maxVCPUs = Capability(KVM_CAP_MAX_VCPUS)

  /// The local APIC's timer has TSC-deadline mode.
  ///
  /// The kernel's name is `KVM_CAP_TSC_DEADLINE_TIMER`.
  public static let tscDeadlineTimer = Capability(KVM_CAP_TSC_DEADLINE_TIMER)

  /// `VCPU.markGuestPaused()` is there; the kernel's name is `KVM_CAP_KVMCLOCK_CTRL`.
  public static let kvmclockCtrl = Capability(KVM_CAP_KVMCLOCK_CTRL)

  /// Memory slots can be read-only; the kernel's name is `KVM_CAP_READONLY_MEM`.
  public static let readOnlyMemory = Capability(KVM_CAP_READONLY_MEM)

  /// `VirtualMachine.enableCapability(_:flags:arguments:)` is there.
  ///
  /// The kernel's name is `KVM_CAP_ENABLE_CAP_VM`.
  public static let enableOnVM = Capability(KVM_CAP_ENABLE_CAP_VM)

  /// VMs have attributes; the kernel's name is `KVM_CAP_VM_ATTRIBUTES`.
  public static let vmAttributes = Capability(KVM_CAP_VM_ATTRIBUTES)

  /// `VirtualMachine.checkExtension(_:)` is there.
  ///
  /// The kernel's name is `KVM_CAP_CHECK_EXTENSION_VM`.
  public static let checkExtensionOnVM = Capability(KVM_CAP_CHECK_EXTENSION_VM)

  /// Quirks can be switched off; the kernel's name is `KVM_CAP_DISABLE_QUIRKS`.
  public static let disableQuirks = Capability(KVM_CAP_DISABLE_QUIRKS)

  /// The local APICs can be in the kernel alone; the kernel's name is `KVM_CAP_SPLIT_IRQCHIP`.
  public static let splitIRQChip = Capability(KVM_CAP_SPLIT_IRQCHIP)

  /// vCPUs have attributes, such as the TSC offset; the kernel's name is `KVM_CAP_VCPU_ATTRIBUTES`.
  public static let vcpuAttributes = Capability(KVM_CAP_VCPU_ATTRIBUTES)

  /// The highest vCPU id, plus 1; the kernel's name is `KVM_CAP_MAX_VCPU_ID`.
  public static let maxVCPUID = Capability(KVM_CAP_MAX_VCPU_ID)

  /// `VCPU.Interrupter` has an effect; the kernel's name is `KVM_CAP_IMMEDIATE_EXIT`.
  public static let immediateExit = Capability(KVM_CAP_IMMEDIATE_EXIT)

  /// HLT and its like can be left to the guest; the kernel's name is `KVM_CAP_X86_DISABLE_EXITS`.
  public static let disableExits = Capability(KVM_CAP_X86_DISABLE_EXITS)

  /// The dirty log can be read without clearing it.
  ///
  /// The kernel's name is `KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2`.
  public static let manualDirtyLogProtect = Capability(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2)

  /// The time that a halted vCPU is polled can be set; the kernel's name is `KVM_CAP_HALT_POLL`.
  public static let haltPoll = Capability(KVM_CAP_HALT_POLL)

  /// Stolen time is accounted for the guest; the kernel's name is `KVM_CAP_STEAL_TIME`.
  public static let stealTime = Capability(KVM_CAP_STEAL_TIME)

  /// MSR accesses can go to user space, for `MSRExitReasons`.
  ///
  /// The kernel's name is `KVM_CAP_X86_USER_SPACE_MSR`.
  public static let userSpaceMSR = Capability(KVM_CAP_X86_USER_SPACE_MSR)

  /// `VirtualMachine.setMSRFilter(_:)` is there; the kernel's name is `KVM_CAP_X86_MSR_FILTER`.
  public static let msrFilter = Capability(KVM_CAP_X86_MSR_FILTER)

  /// Paravirtual features can be confined to those that CPUID offers.
  ///
  /// The kernel's name is `KVM_CAP_ENFORCE_PV_FEATURE_CPUID`.
  public static let enforcePVFeatureCPUID = Capability(KVM_CAP_ENFORCE_PV_FEATURE_CPUID)

  /// Guests can ask for host time and TSC as a pair; the kernel's name is `KVM_CAP_PTP_KVM`.
  public static let ptp = Capability(KVM_CAP_PTP_KVM)

  /// Each vCPU can have a `DirtyRing`; the value is the most bytes of one.
  ///
  /// The kernel's name is `KVM_CAP_DIRTY_LOG_RING`.
  public static let dirtyLogRing = Capability(KVM_CAP_DIRTY_LOG_RING)

  /// The same, for processors that may reorder stores too.
  ///
  /// The kernel's name is `KVM_CAP_DIRTY_LOG_RING_ACQ_REL`.
  public static let dirtyLogRingAcquireRelease = Capability(KVM_CAP_DIRTY_LOG_RING_ACQ_REL)

  /// What no vCPU writes goes to the dirty log, beside the rings.
  ///
  /// The kernel's name is `KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP`.
  public static let dirtyLogRingWithBitmap = Capability(KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP)

  /// Special registers can be read together with the PDPTRs; the kernel's name is `KVM_CAP_SREGS2`.
  public static let specialRegisters2 = Capability(KVM_CAP_SREGS2)

  /// Statistics can be read from a descriptor; the kernel's name is `KVM_CAP_BINARY_STATS_FD`.
  public static let binaryStatistics = Capability(KVM_CAP_BINARY_STATS_FD)

  /// KVM's device has attributes; the kernel's name is `KVM_CAP_SYS_ATTRIBUTES`.
  public static let systemAttributes = Capability(KVM_CAP_SYS_ATTRIBUTES)

  /// Quirks can be switched off; the value is the set of known quirks.
  ///
  /// The kernel's name is `KVM_CAP_DISABLE_QUIRKS2`.
  public static let disableQuirks2 = Capability(KVM_CAP_DISABLE_QUIRKS2)

  /// The TSC's frequency can be set for a whole VM; the kernel's name is `KVM_CAP_VM_TSC_CONTROL`.
  public static let vmTSCControl = Capability(KVM_CAP_VM_TSC_CONTROL)

  /// `VCPU.events()` includes a pending triple fault.
  ///
  /// The kernel's name is `KVM_CAP_X86_TRIPLE_FAULT_EVENT`.
  public static let tripleFaultEvent = Capability(KVM_CAP_X86_TRIPLE_FAULT_EVENT)

  /// A guest that allows no interrupts for too long can end the run.
  ///
  /// The kernel's name is `KVM_CAP_X86_NOTIFY_VMEXIT`.
  public static let notifyVMExit = Capability(KVM_CAP_X86_NOTIFY_VMEXIT)

  /// A fault in guest memory is described in `kvm_run`.
  ///
  /// The kernel's name is `KVM_CAP_MEMORY_FAULT_INFO`.
  public static let memoryFaultInfo = Capability(KVM_CAP_MEMORY_FAULT_INFO)

  /// The set of VM types, one bit each; the kernel's name is `KVM_CAP_VM_TYPES`.
  public static let vmTypes = Capability(KVM_CAP_VM_TYPES)

  /// The length of an APIC bus cycle can be set, in nanoseconds.
  ///
  /// The kernel's name is `KVM_CAP_X86_APIC_BUS_CYCLES_NS`.
  public static let apicBusCycles = Capability(KVM_CAP_X86_APIC_BUS_CYCLES_NS)
}
