/// What a rule rests on.
public struct Source: Hashable, Sendable {
  public enum Kind: String, Hashable, Sendable, CaseIterable {
    /// The documentation or a header that states the ABI.
    case document
    /// What shipped guests rely on, whatever the documents say.
    case guest
    /// A commit of Linux whose message makes the promise.
    case commit
    /// What Linux does today, and nothing more.
    case implementation
  }

  public let kind: Kind
  /// A document and section, a guest, a commit with its first release, or a file and function.
  public let text: String

  static func document(_ text: String) -> Self { Self(kind: .document, text: text) }
  static func guest(_ text: String) -> Self { Self(kind: .guest, text: text) }
  /// - Parameter text: "Linux 77fcbe823f00 (5.12)".
  static func commit(_ text: String) -> Self { Self(kind: .commit, text: text) }
  static func implementation(_ text: String) -> Self { Self(kind: .implementation, text: text) }

  // The files that most rules rest on: the documents of the MSRs and of the ioctls, and the code.
  static func msr(_ at: String) -> Self { document("Documentation/virt/kvm/x86/msr.rst, " + at) }
  static func api(_ at: String) -> Self { document("Documentation/virt/kvm/api.rst, " + at) }
  static func x86(_ at: String) -> Self { implementation("arch/x86/kvm/x86.c, " + at) }
}

/// What a rule needs of the host; a functional probe of each tells whether it is there.
public enum HostNeed: String, Hashable, Sendable, CaseIterable {
  /// The VM runs on KVM's master clock: a TSC clocksource and vCPUs with matching TSCs.
  case masterClock = "master clock"
  /// `KVM_VCPU_TSC_OFFSET` can be set and takes effect.
  case tscOffset = "TSC offset"
  /// A write of IA32_TSC or IA32_TSC_ADJUST moves the guest's TSC.
  case tscWrites = "TSC writes"
  /// An in-kernel local APIC, by which one vCPU sends INIT to another.
  case irqChip = "in-kernel irqchip"
  /// `KVM_GET_CLOCK` returns CLOCK_REALTIME and the host's TSC, and `KVM_SET_CLOCK` takes CLOCK_REALTIME.
  case clockDetails = "CLOCK_REALTIME and host TSC in KVM_GET_CLOCK"
  case clockControl = "KVM_KVMCLOCK_CTRL"
  case featureEnforcement = "KVM_CAP_ENFORCE_PV_FEATURE_CPUID"
  case msrFilter = "KVM_X86_SET_MSR_FILTER"
  case readOnlyMemory = "read-only memory slots"
  case dirtyRing = "dirty rings"
  /// userfaultfd(2) for shared memory, also where the kernel is the one who waits for a page.
  case missingPages = "userfaultfd"
  /// `KVM_SET_TSC_KHZ` of a VM.
  case vmTSCFrequency = "TSC frequency of a VM"
  /// `KVM_SET_TSC_KHZ` of half the host's frequency, and the guest's TSC counts at it.
  case tscScaling = "TSC scaling"
  case twoCPUs = "two CPUs"
  /// A guest's WRMSR of Hyper-V's MSRs takes effect, and so does the host's KVM_XEN_VCPU_SET_ATTR; a hypercall comes back.
  case hyperV = "Hyper-V's MSRs"
  case xen = "Xen's clock record"
  case hypercalls = "hypercalls"
  /// A guest can be a hypervisor itself: its VMRUN or VMLAUNCH runs a guest of its own.
  case nested = "nested virtualization"
  /// A scratch host: --change-host was given.
  case hostChange = "a host that may be changed"
  /// Minutes of time: --long was given.
  case minutes = "minutes of time"
}
