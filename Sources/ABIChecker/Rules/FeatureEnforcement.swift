internal import PVClock

// Section A of the catalogue: who may use the clock's MSRs.

extension Rule {
  static let featureEnforcement: [Rule] = [.enforcePVGP, .noEnforceWorks, .msrFilterGP]

  static let enforcePVGP = Rule(
    "ENFORCE-PV-GP",
    "On a vCPU with KVM_CAP_ENFORCE_PV_FEATURE_CPUID, enabled before or after KVM_SET_CPUID2, RDMSR and WRMSR of 0x11 and "
      + "0x12 raise #GP just where bit 0 of EAX in CPUID leaf 0x40000001 is clear, those of 0x4b564d00 and 0x4b564d01 "
      + "just where bit 3 is; bit 24 gates nothing; without KVM's leaves all do. A WRMSR that faults changes nothing.",
    source:
      "Documentation/virt/kvm/api.rst, 8.28 KVM_CAP_ENFORCE_PV_FEATURE_CPUID; Linux 1930e5ddcead, 01b4f510b9f4 (5.10)",
    method:
      "vCPUs with EAX 0, 1, 8, 2^24, 9, all that is supported, and without the leaves; each writes and reads all four "
      + "MSRs; look at the memory they name.",
    scenarios: [.pvFeatures], since: "5.10",
    faults: [
      "the new MSRs gated by the old ones' feature bit in kvm_set_msr_common()",
      "RDMSR of a gated MSR succeeds, as before 1930e5ddcead",
      "the capability has no effect when it is enabled after CPUID, as before 01b4f510b9f4",
      "a WRMSR that faults still registers its record, or still changes the MSR",
    ]
  ) { timeline in
    var findings = Findings()
    var seen: Set<[String]> = []
    for access in timeline.clockMSRAccesses {
      guard let enforcement = access.enforcement else { continue }
      seen.insert(["\(enforcement)", access.name, "\(access.isOffered)"])
      findings.expectAccess(
        access, isDenied: !access.isOffered, in: timeline,
        why: "\(access.offer), enforced \(enforcement) CPUID was set")
    }
    // Two orders, four MSRs, reads and writes, offered and not.
    let isComplete = seen.count == 32
    return findings.outcome(
      atLeast: isComplete ? 112 : .max,
      isComplete
        ? "accesses of vCPUs that are confined to their CPUID"
        : "reads and writes of four MSRs, offered and not, enforced before CPUID and after",
      in: timeline)
  }

  static let noEnforceWorks = Rule(
    "NOENFORCE-WORKS",
    "Without KVM_CAP_ENFORCE_PV_FEATURE_CPUID the clock's MSRs work whatever the guest's CPUID says.",
    source:
      "Documentation/virt/kvm/api.rst, 8.28 (\"Otherwise, a guest may use the paravirtual features regardless\")",
    method:
      "vCPUs with EAX 0 and 8 in CPUID leaf 0x40000001, and without the leaf, write and read all four MSRs; the records "
      + "they name have to be served.",
    scenarios: [.pvFeatures],
    faults: [
      "guest_pv_has() without its test of pv_cpuid.enforce",
      "a record stays as it was although the WRMSR did not fault",
    ]
  ) { timeline in
    var findings = Findings()
    var served: Set<Hex> = []
    for access in timeline.clockMSRAccesses
    where access.enforcement == nil && !access.isOffered && !access.isFiltered {
      findings.expectAccess(
        access, isDenied: false, in: timeline, why: "\(access.offer), which nobody enforces")
      guard access.isWrite, access.fault == nil, MSR.isSystemTime(access.msr),
        access.value.value & 1 == 1, let (look, bytes) = timeline.memory(after: access),
        let page = ClockPage(bytes: bytes)
      else { continue }
      served.insert(access.msr)
      findings.expect(
        page.isServed, at: [access.event, look],
        "a record at \(Hex(access.record)), which the guest registered through \(access.msr)",
        seen: describe(page))
    }
    let isComplete = served.count == 2
    return findings.outcome(
      atLeast: isComplete ? 10 : .max,
      isComplete
        ? "accesses and records that CPUID does not offer"
        : "records registered through both MSRs on vCPUs whose CPUID does not offer them",
      in: timeline)
  }

  static let msrFilterGP = Rule(
    "MSR-FILTER-GP",
    "A clock MSR that KVM_X86_SET_MSR_FILTER denies raises #GP in the guest at RDMSR and WRMSR, and a WRMSR that faults "
      + "changes nothing; the other clock MSRs, and the host's KVM_SET_MSRS and KVM_GET_MSRS, are not affected.",
    source: "Documentation/virt/kvm/api.rst, 4.97 KVM_X86_SET_MSR_FILTER",
    method:
      "Deny each clock MSR by itself, then none; the guest writes and reads all four each time, and so does the host.",
    scenarios: [.msrFilter], since: "5.10",
    faults: [
      "kvm_msr_allowed() says yes to RDMSR or to WRMSR",
      "the filter applied to the host's KVM_SET_MSRS too",
      "the filter denies the alias as well",
    ]
  ) { timeline in
    var findings = Findings()
    var denied: Set<String> = []
    for access in timeline.clockMSRAccesses where access.enforcement == nil {
      if access.isFiltered { denied.insert(access.name) }
      findings.expectAccess(
        access, isDenied: access.isFiltered, in: timeline,
        why: access.isFiltered
          ? "KVM_X86_SET_MSR_FILTER denies it" : "KVM_X86_SET_MSR_FILTER does not deny it")
    }
    let hostWrites = findings.expectHostIsNotFiltered(timeline)
    let isComplete = denied.count == 8 && hostWrites >= 4
    return findings.outcome(
      atLeast: isComplete ? 40 : .max,
      isComplete
        ? "accesses of guest and host under a filter"
        : "reads and writes of each MSR while it was denied, by the guest and by the host",
      in: timeline)
  }
}

extension ClockPage {
  /// Whether a host wrote it, at rest, over memory that was filled with 0xa5.
  var isServed: Bool {
    let stale: UInt64 = 0xa5a5_a5a5_a5a5_a5a5
    return version % 2 == 0 && systemTime != stale && tscTimestamp != stale && scale.isNormalized
  }
}

extension Findings {
  /// #GP where the access is denied, and then nothing has changed; no fault elsewhere, and the value of the last write
  /// that went through.
  fileprivate mutating func expectAccess(
    _ access: ClockMSRAccess, isDenied: Bool, in timeline: Timeline, why: String
  ) {
    expect(
      isDenied ? access.fault?.vector == 13 : access.fault == nil, at: [access.event],
      "\(isDenied ? "#GP" : "no fault") from vcpu\(access.vcpu)'s \(access.name): \(why)",
      seen: access.fault.map { "exception vector \($0.vector)" } ?? "no fault")
    if !access.isWrite, access.fault == nil, !isDenied {
      expect(
        access.value == access.last, at: [access.event],
        "\(access.last) from vcpu\(access.vcpu)'s \(access.name), the last value whose write did not fault",
        seen: "\(access.value)")
    }
    if access.isWrite, access.fault != nil, let (look, bytes) = timeline.memory(after: access) {
      let at = bytes.firstIndex { $0 != 0xa5 }
      expect(
        at == nil, at: [access.event, look],
        "32 bytes 0xa5 from \(Hex(access.record)): the write that named them faulted",
        seen: "\(Hex(UInt64(bytes[at ?? 0]))) at \(Hex(access.record &+ UInt64(at ?? 0)))")
    }
  }

  /// The host's own accesses under a filter; returns how many writes of denied MSRs there were.
  fileprivate mutating func expectHostIsNotFiltered(_ timeline: Timeline) -> Int {
    var denied: Set<Hex> = []
    var wrote: [Hex: (event: Event, value: Hex)] = [:]
    var count = 0
    for event in timeline.history.events {
      switch event.action {
      case .vmCreated: (denied, wrote) = ([], [:])
      case .msrsDenied(let msrs): denied = Set(msrs)
      case .hostMSRRefused(let vcpu, let msr, let value) where denied.contains(msr):
        expect(
          false, at: [event],
          "KVM_SET_MSRS of \(msr) to take \(value) for vcpu\(vcpu): the filter is for guests",
          seen: "it was refused")
      case .hostWroteMSR(_, let msr, let value):
        wrote[msr] = (event, value)
        if denied.contains(msr) { count += 1 }
      case .hostReadMSR(let vcpu, let msr, let value):
        guard let (write, expected) = wrote.removeValue(forKey: msr) else { continue }
        expect(
          value == expected, at: [write, event],
          "\(expected) from KVM_GET_MSRS of \(msr) on vcpu\(vcpu), which the host has just written",
          seen: "\(value)")
      default: continue
      }
    }
    return count
  }
}
