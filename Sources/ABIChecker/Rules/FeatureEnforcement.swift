internal import PVClock

// Who may use the clock's MSRs.

extension Rule {
  static let featureEnforcement: [Rule] = [
    .enforcePVGP, .enforcePVHost, .noEnforceWorks, .msrFilterGP,
  ]

  static let enforcePVGP = Rule(
    "ENFORCE-PV-GP",
    "On a vCPU with KVM_CAP_ENFORCE_PV_FEATURE_CPUID, enabled before or after KVM_SET_CPUID2, RDMSR and WRMSR of 0x11 and "
      + "0x12 raise #GP if and only if bit 0 of EAX in CPUID leaf 0x40000001 is clear, and those of 0x4b564d00 and "
      + "0x4b564d01 if and only if bit 3 is; bit 24 does not matter; without KVM's leaves all of them raise #GP. A WRMSR "
      + "that faults changes nothing.",
    sources: [
      .api("8.28 KVM_CAP_ENFORCE_PV_FEATURE_CPUID"),
      .commit("Linux 1930e5ddcead (5.10)"),
      .commit("Linux 01b4f510b9f4 (5.10)"),
    ],
    method:
      "vCPUs with EAX 0, 1, 8, 2^24, 9, all that is supported, and without the leaves; each writes and reads all four "
      + "MSRs; the memory that the writes name is read.",
    scenarios: [.pvFeatures],
    coverage: [
      .observations(112, "accesses of vCPUs that are confined to their CPUID"),
      .different(
        32,
        "accesses: read and write of four MSRs, offered and not, enforced before CPUID and after"),
      .each(
        ["EAX 0x0", "EAX 0x1", "EAX 0x8", "EAX 0x1000000", "EAX 0x9", "no KVM leaf"], "CPUIDs"),
      .count(8, "records whose WRMSR faulted"),
    ],
    needs: [.featureEnforcement]
  ) { timeline, findings in
    for access in timeline.clockMSRAccesses {
      guard let enforcement = access.enforcement else { continue }
      findings.cover(
        "\(access.name), \(access.isOffered ? "offered" : "not offered"), \(enforcement.rawValue)",
        of:
          "accesses: read and write of four MSRs, offered and not, enforced before CPUID and after")
      findings.cover(access.offer, of: "CPUIDs")
      findings.expectAccess(
        access, isDenied: !access.isOffered,
        why: "\(access.offer), enforced \(enforcement.rawValue) CPUID was set")
    }
  }

  static let enforcePVHost = Rule(
    "ENFORCE-PV-HOST",
    "On a vCPU with KVM_CAP_ENFORCE_PV_FEATURE_CPUID, KVM_GET_MSRS of a clock MSR that CPUID does not offer gives 0, and "
      + "KVM_SET_MSRS takes 0 and refuses any other value; with the MSR offered both work.",
    sources: [.x86("kvm_do_msr_access()")],
    method:
      "The host reads and writes all four MSRs of the vCPUs of ENFORCE-PV-GP, as a VMM does that saves and restores all "
      + "of KVM_GET_MSR_INDEX_LIST.",
    scenarios: [.pvFeatures],
    coverage: [
      .observations(16, "accesses of the host"),
      .each(
        MSR.clock.flatMap { msr in
          ["KVM_GET_MSRS", "KVM_SET_MSRS"].flatMap {
            ["\($0) of \(Hex(msr)), offered", "\($0) of \(Hex(msr)), not offered"]
          } + ["0 by KVM_SET_MSRS of \(Hex(msr)), not offered"]
        }, "accesses"),
    ],
    needs: [.featureEnforcement]
  ) { timeline, findings in
    for step in timeline.steps {
      guard step.after.enforcement != nil, step.after.cpuid != .unknown else { continue }
      switch step.event.action {
      case .hostReadMSR(_, let msr, let value) where MSR.isClock(msr):
        findings.expectHostsAccess("KVM_GET_MSRS", msr, gave: value, at: step)
      case .hostMSRReadRefused(_, let msr) where MSR.isClock(msr):
        findings.expectHostsAccess("KVM_GET_MSRS", msr, gave: nil, at: step)
      case .hostWroteMSR(_, let msr, 0) where MSR.isClock(msr) && !step.after.offers(msr):
        findings.expectHostsAccess("0 by KVM_SET_MSRS", msr, gave: 0, at: step)
      case .hostMSRRefused(_, let msr, 0) where MSR.isClock(msr):
        findings.expectHostsAccess("0 by KVM_SET_MSRS", msr, gave: nil, at: step)
      case .hostWroteMSR(_, let msr, let value) where MSR.isClock(msr) && value != 0:
        findings.expectHostsAccess("KVM_SET_MSRS", msr, gave: value, at: step)
      case .hostMSRRefused(_, let msr, _) where MSR.isClock(msr):
        findings.expectHostsAccess("KVM_SET_MSRS", msr, gave: nil, at: step)
      default: continue
      }
    }
  }

  static let noEnforceWorks = Rule(
    "NOENFORCE-WORKS",
    "Without KVM_CAP_ENFORCE_PV_FEATURE_CPUID all four clock MSRs work, even if the guest's CPUID does not offer them: "
      + "no fault, and the record is written.",
    sources: [
      .api(
        "8.28 KVM_CAP_ENFORCE_PV_FEATURE_CPUID (\"Otherwise, a guest may use the paravirtual features regardless\")"
      )
    ],
    method:
      "vCPUs with EAX 0 and 8 in CPUID leaf 0x40000001, and without the leaf, write and read all four MSRs; the memory "
      + "that the writes name is read.",
    scenarios: [.pvFeatures],
    coverage: [
      .observations(10, "accesses and records that CPUID does not offer"),
      .each(MSR.clock.map { Hex($0).description }, "records by MSR"),
      .each(["EAX 0x0", "no KVM leaf"], "CPUIDs"),
    ]
  ) { timeline, findings in
    for access in timeline.clockMSRAccesses
    where access.enforcement == nil && !access.isOffered && !access.isFiltered {
      findings.cover(access.offer, of: "CPUIDs")
      findings.expectAccess(
        access, isDenied: false, why: "\(access.offer), which is not enforced")
      findings.expectRecord(of: access)
    }
  }

  static let msrFilterGP = Rule(
    "MSR-FILTER-GP",
    "A clock MSR that KVM_X86_SET_MSR_FILTER denies raises #GP in the guest at RDMSR and WRMSR, and a WRMSR that faults "
      + "changes nothing; the other clock MSRs, and the host's KVM_SET_MSRS and KVM_GET_MSRS, are not affected.",
    sources: [.api("4.97 KVM_X86_SET_MSR_FILTER")],
    method:
      "Deny each clock MSR by itself, then none; the guest writes and reads all four each time, and so does the host.",
    scenarios: [.msrFilter],
    coverage: [
      .each(
        MSR.clock.flatMap { ["RDMSR of \(Hex($0))", "WRMSR of \(Hex($0))"] },
        "accesses while it was denied"),
      .observations(40, "accesses of guest and host under a filter"),
      .count(4, "records whose WRMSR faulted"),
      .each(MSR.clock.map { Hex($0).description }, "MSRs that the host wrote"),
      .each(MSR.clock.map { Hex($0).description }, "MSRs that the host read"),
    ],
    needs: [.msrFilter]
  ) { timeline, findings in
    for access in timeline.clockMSRAccesses where access.enforcement == nil {
      if access.isFiltered { findings.cover(access.name, of: "accesses while it was denied") }
      findings.expectAccess(
        access, isDenied: access.isFiltered,
        why: access.isFiltered
          ? "KVM_X86_SET_MSR_FILTER denies it" : "KVM_X86_SET_MSR_FILTER does not deny it")
    }
    findings.expectHostIsNotFiltered(timeline)
  }
}

extension ClockPage {
  /// Whether a host wrote it, at rest, over memory that was filled with 0xa5.
  var isServed: Bool {
    let stale: UInt64 = 0xa5a5_a5a5_a5a5_a5a5
    return version % 2 == 0 && systemTime != stale && tscTimestamp != stale && scale.isNormalized
  }
}

extension WallClock {
  /// The same of a wall clock record.
  fileprivate var isServed: Bool {
    version % 2 == 0 && seconds != 0xa5a5_a5a5 && nanoseconds < 1_000_000_000
  }
}

extension Findings {
  /// #GP where the access is denied, and then nothing has changed; no fault elsewhere, and the value of the last write
  /// that went through.
  fileprivate mutating func expectAccess(_ access: ClockMSRAccess, isDenied: Bool, why: String) {
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
    if access.isWrite, access.fault != nil, let (look, bytes) = access.memory {
      count("records whose WRMSR faulted")
      let at = bytes.firstIndex { $0 != 0xa5 }
      expect(
        at == nil, at: [access.event, look],
        "32 bytes 0xa5 from \(Hex(access.record)): the write that named them faulted",
        seen: "\(Hex(UInt64(bytes[at ?? 0]))) at \(Hex(access.record &+ UInt64(at ?? 0)))")
    }
  }

  /// What the host read, or wrote; nil where it was refused. Covers "accesses".
  fileprivate mutating func expectHostsAccess(
    _ request: String, _ msr: Hex, gave value: Hex?, at step: Step
  ) {
    let isOffered = step.after.offers(msr)
    let expected: Hex? =
      isOffered ? step.lastWrite(of: msr) : request == "KVM_SET_MSRS" ? nil : 0
    cover("\(request) of \(msr), \(isOffered ? "" : "not ")offered", of: "accesses")
    expect(
      value == expected, at: [step.event],
      "\(expected.map(\.description) ?? "a refusal") from \(request) of \(msr) on vcpu\(step.vcpu ?? 0): "
        + step.after.offer,
      seen: value.map(\.description) ?? "it was refused")
  }

  /// A write that did not fault has its record. Covers "records by MSR".
  fileprivate mutating func expectRecord(of access: ClockMSRAccess) {
    guard access.isWrite, access.fault == nil, let (look, bytes) = access.memory else { return }
    let isServed: Bool
    let seen: String
    if MSR.isSystemTime(access.msr) {
      guard access.value.value & 1 == 1, let page = ClockPage(bytes: bytes) else { return }
      (isServed, seen) = (page.isServed, describe(page))
    } else {
      guard let wall = WallClock(bytes: bytes.prefix(WallClock.size)) else { return }
      isServed = wall.isServed
      seen = "version \(wall.version), sec \(wall.seconds), nsec \(wall.nanoseconds)"
    }
    cover(access.msr.description, of: "records by MSR")
    expect(
      isServed, at: [access.event, look],
      "a record at \(Hex(access.record)), which the guest asked for through \(access.msr)",
      seen: seen)
  }

  /// The host's own accesses under a filter. Covers "MSRs that the host wrote" and "MSRs that the host read".
  fileprivate mutating func expectHostIsNotFiltered(_ timeline: Timeline) {
    for step in timeline.steps {
      let denied = step.machine.deniedMSRs
      switch step.event.action {
      case .hostMSRRefused(let vcpu, let msr, let value) where denied.contains(msr):
        expect(
          false, at: [step.event],
          "KVM_SET_MSRS of \(msr) on vcpu\(vcpu) to accept \(value): the filter is for guests",
          seen: "it was refused")
      case .hostWroteMSR(_, let msr, _) where denied.contains(msr):
        cover(msr.description, of: "MSRs that the host wrote")
      case .hostReadMSR(let vcpu, let msr, let value) where MSR.isClock(msr):
        let write =
          MSR.isSystemTime(msr) ? step.after.systemTime?.event : step.machine.wallClock?.event
        guard let write, write.actor == .host else { continue }
        if denied.contains(msr) { cover(msr.description, of: "MSRs that the host read") }
        expect(
          value == step.lastWrite(of: msr), at: [write, step.event],
          "\(step.lastWrite(of: msr)) from KVM_GET_MSRS of \(msr) on vcpu\(vcpu), which the host wrote last",
          seen: "\(value)")
      default: continue
      }
    }
  }
}
