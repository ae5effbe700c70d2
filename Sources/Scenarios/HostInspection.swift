public import ABIChecker
public import KVM

/// What this host is and what its KVM offers, found out by trying.
public enum HostInspection {
  /// What rules need to know of the host.
  ///
  /// - Throws: `KVMError` naming the request, with a remedy, where KVM cannot be used.
  public static func facts(device: String) throws(KVMError) -> HostFacts {
    let system = try KVMSystem(path: device)
    let machine = try system.createVM()
    let vcpu = try machine.createVCPU(id: 0)
    var facts = HostFacts(
      kernel: HostNames.kernelRelease(), backend: HostNames.backend(),
      clocksource: HostNames.clocksource(), tscKHz: try? vcpu.tscKHz())
    facts.machine = HostNames.machine(backend: facts.backend)
    return facts
  }

  /// The machine's name on its network; nil if it has none.
  public static var hostname: String? { HostNames.hostname() }

  /// The facts, the capabilities that concern the clock, and what behaves as it says.
  ///
  /// - Throws: `KVMError` naming the request, with a remedy, where KVM cannot be used.
  public static func report(device: String) throws(KVMError) -> HostReport {
    let facts = try facts(device: device)
    let system = try KVMSystem(path: device)
    var capabilities: [HostReport.CapabilityValue] = []
    for (capability, meaning) in Self.capabilities {
      let value = try system.checkExtension(capability)
      capabilities.append(.init(name: capability.description, value: value, meaning: meaning))
    }
    let probes = [
      HostProbes.masterClock(system, facts), HostProbes.hostTSC(system),
      HostProbes.irqChip(system), HostProbes.tscOffset(system),
      HostProbes.capability(
        system, .kvmclockCtrl, .clockControl, remedy: "use a kernel with KVM_CAP_KVMCLOCK_CTRL"),
      HostProbes.capability(
        system, .enforcePVFeatureCPUID, .featureEnforcement, remedy: "use Linux 5.10 or newer"),
      HostProbes.capability(
        system, .msrFilter, .msrFilter, remedy: "use Linux 5.10 or newer"),
      HostProbes.capability(
        system, .readOnlyMemory, .readOnlyMemory,
        remedy: "use a backend with KVM_CAP_READONLY_MEM"),
      HostProbes.dirtyRing(system), HostProbes.missingPages(),
      HostProbes.capability(
        system, .vmTSCControl, .vmTSCFrequency,
        remedy: "use Linux 5.18 or newer, and a backend that supports it"),
      HostProbes.tscScaling(system),
      HostProbes.hyperV(system), HostProbes.xen(system), HostProbes.hypercalls(system),
      HostProbes.nested(system),
      HostProbes.twoCPUs(),
    ]
    return HostReport(facts: facts, capabilities: capabilities, probes: probes)
  }

  private static let capabilities: [(Capability, String)] = [
    (.clocksource, "guests have the clock at all"),
    (.adjustClock, "the flags that KVM_GET_CLOCK may return: 2 stable, 4 real time, 8 host TSC"),
    (.kvmclockCtrl, "the host can tell a guest that it was stopped"),
    (.getTSCKHz, "the TSC's frequency can be read"),
    (.tscControl, "guests can have a TSC of another frequency"),
    (.vmTSCControl, "the same for a whole VM"),
    (.vcpuAttributes, "vCPUs have attributes, such as the TSC offset"),
    (.enforcePVFeatureCPUID, "a guest can be confined to the clock that its CPUID offers"),
    (.userSpaceMSR, "MSR accesses can go to user space, for reasons 1, 2 and 4"),
    (.msrFilter, "single MSRs can be denied"),
    (.readOnlyMemory, "the clock's page can lie in read-only memory"),
    (.dirtyLogRing, "pages that are written can be named in rings, of so many bytes at most"),
    (.irqchip, "vCPUs can be reset by INIT, through in-kernel interrupt controllers"),
    (.immediateExit, "a vCPU that runs away can be stopped"),
    (.maxVCPUs, "the most vCPUs a VM can have"),
  ]
}

/// What `HostInspection` found.
public struct HostReport: Sendable {
  public struct CapabilityValue: Sendable {
    public var name: String
    /// What `KVM_CHECK_EXTENSION` returned; 0 for absent.
    public var value: Int32
    public var meaning: String
  }

  public struct Probe: Sendable {
    public enum Finding: String, Sendable {
      case works, absent
      /// The probe itself failed.
      case unknown
    }

    public var name: String
    public var finding: Finding
    /// What was done and seen.
    public var evidence: String
    /// The rules that cannot be tested without it; none where no rule needs it yet.
    public var rules: [String]
    /// What would make it work.
    public var remedy: String
  }

  public var facts: HostFacts
  public var capabilities: [CapabilityValue]
  public var probes: [Probe]
}
