internal import PVClock

// A guest that is a hypervisor itself: L1, which runs a guest of its own, L2, whose TSC is another.

extension Rule {
  static let nested: [Rule] = [.nestedRecordIsL1, .nestedTSCIsL1]

  static let nestedRecordIsL1 = Rule(
    "NESTED-RECORD-IS-L1",
    "A record holds the TSC of the guest that registered it (L1), whoever runs when it is written: made anew while a guest of the "
      + "guest (L2) runs, whose TSC is another, it gives the clock that was set at L1's TSC, to L2 and later to L1.",
    sources: [
      .commit(
        "Linux, \"X86/KVM: Properly update 'tsc_offset' to represent the running guest\" (e79f245ddec1)"
      ),
      .x86("kvm_guest_time_update(), by kvm_read_l1_tsc()"),
    ],
    method:
      "The guest runs itself as a guest with a TSC offset. While L2 runs: KVM_SET_CLOCK, KVM_SET_MSRS of the system-time MSR or "
      + "KVM_KVMCLOCK_CTRL; enter; L2 reads the record and its TSC. Back in L1 read again.",
    scenarios: [.nested],
    coverage: [
      .each(updates, "reasons for an update while L2 ran"),
      .each(["L2", "L1"], "readers of such a record"),
      .observations(8, "readings of records that were made while L2 ran"),
    ], needs: [.nested, .clockControl]
  ) { timeline, findings in
    for machine in timeline.machines {
      // Why the record is due, while L2 runs; and why the record of now was made there.
      var due: [Int: String] = [:]
      var made: [Int: String] = [:]
      for step in machine.steps {
        // What becomes of the clock then is what other rules ask.
        if TSCMoves.vcpu(movedBy: step.event) != nil { (due, made) = ([:], [:]) }
        if let vcpu = step.vcpu {
          if step.isEntry, step.before.l2Offset != nil, let reason = due.removeValue(forKey: vcpu) {
            made[vcpu] = reason
          }
          if let reason = step.reason {
            (due[vcpu], made[vcpu]) = (step.after.l2Offset == nil ? nil : reason, nil)
          }
        } else if case .setClock = step.event.action {
          made = [:]
          for vcpu in step.machine.inL2 { due[vcpu] = "KVM_SET_CLOCK" }
        }
        for reading in step.observations + [step.readingInL2].compactMap({ $0 }) {
          guard let vcpu = reading.vcpu, let reason = made[vcpu],
            let setting = step.machine.setting, !setting.record.hasRealtime,
            findings.expectValue(
              setting.record.clock, since: setting.event, at: reading, in: timeline,
              why:
                "the time that CLOCK_MONOTONIC_RAW counted since KVM_SET_CLOCK; \(reason) made the "
                + "record due while L2 ran, and it holds L1's TSC")
          else { continue }
          findings.cover(reason, of: "reasons for an update while L2 ran")
          findings.cover(
            step.readingInL2 == nil ? "L1" : "L2", of: "readers of such a record")
        }
      }
    }
  }

  private static let updates = ["KVM_SET_CLOCK", "KVM_SET_MSRS", "KVM_KVMCLOCK_CTRL"]

  static let nestedTSCIsL1 = Rule(
    "NESTED-TSC-IS-L1",
    "While a guest of the guest (L2) runs, the host deals with L1's TSC: KVM_GET_MSRS of IA32_TSC and KVM_VCPU_TSC_OFFSET give L1's, "
      + "KVM_VCPU_TSC_OFFSET and KVM_SET_MSRS of IA32_TSC set L1's, and L2's TSC is L1's plus the offset that L1 gave it, before and after.",
    sources: [
      .x86("kvm_get_msr_common(), MSR_IA32_TSC (\"we unconditionally return L1's TSC value\")"),
      .x86("kvm_set_msr_common(), MSR_IA32_TSC, by kvm_compute_l1_tsc_offset()"),
      .x86("kvm_vcpu_write_tsc_offset(), by kvm_calc_nested_tsc_offset()"),
    ],
    method:
      "Set KVM_VCPU_TSC_OFFSET and read it back. While L2 runs: RDTSC in L2, KVM_GET_MSRS of IA32_TSC, KVM_VCPU_TSC_OFFSET; set the "
      + "offset, or write IA32_TSC, and do the same again; back in L1 RDTSC.",
    scenarios: [.nested],
    coverage: [
      .each(views, "views of the TSC"), .each(moves, "moves of the TSC while L2 ran"),
      .observations(8, "views of a TSC while L2 ran, and after"),
    ], needs: [.nested, .tscOffset]
  ) { timeline, findings in
    guard timeline.isTSC else {
      return findings.lacks(
        "the host does not run on its TSC: it may be unstable, and offsets differ")
    }
    for machine in timeline.machines {
      var walk = L1Offsets()
      for step in machine.steps { walk.take(step, &findings) }
    }
  }

  private static let views = [
    "KVM_GET_MSRS", "KVM_VCPU_TSC_OFFSET", "RDTSC in L2", "RDTSC in L1",
    "KVM_GET_MSRS after a move", "RDTSC in L2 after a move", "RDTSC in L1 after a move",
  ]

  private static let moves = ["KVM_VCPU_TSC_OFFSET", "KVM_SET_MSRS of IA32_TSC"]
}

/// Follows the TSC offset of L1 of the vCPUs that ran L2.
private struct L1Offsets {
  /// What the offset is, by an attribute or an IA32_TSC that was set: from `cycles` on, `width` wide; and whether L2 ran then.
  private struct Known {
    let event: Event
    let cycles: UInt64
    let width: Int128
    let move: String
    let wasInL2: Bool

    init(offset: UInt64, _ event: Event, inL2: Bool) {
      (self.event, cycles, width) = (event, offset, 0)
      (move, wasInL2) = ("KVM_VCPU_TSC_OFFSET", inL2)
    }

    /// KVM counts the value from an instant within the call.
    init(tsc: UInt64, _ event: Event, inL2: Bool) {
      (self.event, cycles, width) = (event, tsc &- event.ended.tsc, event.widthInCycles)
      (move, wasInL2) = ("KVM_SET_MSRS of IA32_TSC", inL2)
    }
  }

  private var known: [Int: Known] = [:]
  private var ranL2: Set<Int> = []
  /// The vCPUs that take an offset at all: one that was set in L1 read back.
  private var trusted: Set<Int> = []

  mutating func take(_ step: Step, _ findings: inout Findings) {
    guard let vcpu = step.vcpu else { return }
    let isInL2 = step.after.l2Offset != nil
    switch step.event.action {
    case .ranL2:
      ranL2.insert(vcpu)
      if known[vcpu] != nil, !trusted.contains(vcpu) {
        findings.lacks("no KVM_VCPU_TSC_OFFSET of vcpu\(vcpu) that was set in L1 read back")
      }
    case .setTSCOffset(_, let cycles):
      known[vcpu] = Known(offset: cycles, step.event, inL2: isInL2)
    case .hostWroteMSR(_, Hex(MSR.tsc), let value):
      // A value within a second of what the TSC shows is an attempt to match TSCs: the offset stays.
      let isNear =
        known[vcpu].map {
          abs(difference(value.value &- step.event.began.tsc, $0.cycles)) < 10_000_000_000
        } ?? true
      known[vcpu] = isNear ? nil : Known(tsc: value.value, step.event, inL2: isInL2)
    case .tscOffset(_, let cycles):
      guard isInL2 else {
        if let known = known[vcpu], !known.wasInL2, known.cycles == cycles {
          trusted.insert(vcpu)
        }
        return
      }
      guard trusted.contains(vcpu), let known = known[vcpu] else { return }
      findings.expect(
        (0...known.width).contains(difference(cycles, known.cycles)),
        at: [known.event, step.event],
        "\(Int64(bitPattern: known.cycles)) cycles from KVM_VCPU_TSC_OFFSET of vcpu\(vcpu)"
          + (known.width == 0 ? "" : ", or up to \(known.width) more")
          + ": L1's offset, while L2 runs",
        seen: "\(Int64(bitPattern: cycles)) cycles")
      findings.cover("KVM_VCPU_TSC_OFFSET", of: "views of the TSC")
    case .hostReadMSR(_, Hex(MSR.tsc), let value) where isInL2:
      judge(value.value, "KVM_GET_MSRS", vcpu, step, &findings)
    case .readInL2(_, let reading, _):
      guard let offset = step.after.l2Offset else { return }
      judge(reading.tsc &- offset, "RDTSC in L2", vcpu, step, &findings)
    case .read(_, _, let reading, _) where !isInL2 && ranL2.contains(vcpu):
      judge(reading.tsc, "RDTSC in L1", vcpu, step, &findings)
    default:
      if TSCMoves.vcpu(movedBy: step.event) != nil { known[vcpu] = nil }
    }
  }

  private func judge(
    _ tsc: UInt64, _ view: String, _ vcpu: Int, _ step: Step, _ findings: inout Findings
  ) {
    guard trusted.contains(vcpu), let known = known[vcpu] else { return }
    let event = step.event
    let ahead = difference(tsc &- event.began.tsc, known.cycles)
    let width = event.widthInCycles + known.width
    findings.expect(
      (0...width).contains(ahead), at: [known.event, event],
      "L1's TSC on vcpu\(vcpu) by \(view), between the host's plus the offset (\(Int64(bitPattern: known.cycles)) cycles) before and after: "
        + "0 to \(width) cycles more than before",
      seen: "\(ahead) cycles more")
    findings.cover(view + (known.wasInL2 ? " after a move" : ""), of: "views of the TSC")
    if known.wasInL2 { findings.cover(known.move, of: "moves of the TSC while L2 ran") }
  }
}

extension Event {
  fileprivate var widthInCycles: Int128 { Int128(ended.tsc) - Int128(began.tsc) }
}

extension Step {
  /// Why the vCPU's record is due, by a request that concerns this vCPU alone.
  fileprivate var reason: String? {
    if case .toldStopped(_, .none) = event.action { return "KVM_KVMCLOCK_CTRL" }
    return systemTimeWrite.map { $0.isByHost ? "KVM_SET_MSRS" : "WRMSR" }
  }
}
