internal import PVClock

// Section F of the catalogue: kvmclock carries on when a vCPU's TSC is moved.

extension Rule {
  static let tscWrites: [Rule] = [
    .tscOffsetContinues, .tscHostWriteContinues, .tscHostWriteContinuesTogether,
    .tscHostWriteContinuesNonmaster,
    .tscAdjustGuestWriteContinues, .tscAdjustHostWriteNoMove, .tscGuestWriteContinues,
  ]

  static let tscOffsetContinues = Rule(
    "TSCOFFSET-CONTINUES",
    "In master-clock mode kvmclock carries on when the host sets a vCPU's TSC offset to any value: at its next entry the "
      + "vCPU has a record that fits the moved TSC.",
    source:
      "Documentation/virt/kvm/devices/vcpu.rst, KVM_VCPU_TSC_OFFSET; Linux 828ca89628bf (5.16)",
    method:
      "Read, set KVM_VCPU_TSC_OFFSET to 0, 2^63, 2^64-1 and seeded values, enter, read; on a vCPU that is alone and on "
      + "two, one after the other. Counts where the guest's RDTSC shows the offset.",
    scenarios: [.tscOffset], since: "5.16",
    faults: [
      "kvm_track_tsc_matching() asks for no new pair when a TSC generation begins",
      "the record stays as it was before the offset was set",
    ]
  ) { timeline in
    timeline.carriesOn(across: "settings of the TSC offset", atLeast: 3, onMasterClock: true) {
      $0.isOffset && !$0.isAmidOthers
    }
  }

  static let tscHostWriteContinues = Rule(
    "TSC-HOSTWRITE-CONTINUES",
    "In master-clock mode kvmclock carries on when the host writes a vCPU's IA32_TSC.",
    source: "Linux 7f187922ddf6 (3.19); arch/x86/kvm/x86.c, kvm_synchronize_tsc()",
    method:
      "Read, KVM_SET_MSRS of IA32_TSC to values far from the TSC's, enter, read; on a vCPU that is alone and on two, one "
      + "after the other.",
    scenarios: [.tscWrite], since: "3.19",
    faults: ["kvm_track_tsc_matching() asks for no new pair when a TSC generation begins"]
  ) { timeline in
    timeline.carriesOn(
      across: "writes of IA32_TSC by the host", atLeast: 2, onMasterClock: true
    ) {
      $0.isWrite(of: MSR.tsc, byHost: true) && !$0.isAmidOthers
    }
  }

  static let tscHostWriteContinuesTogether = Rule(
    "TSC-HOSTWRITE-CONTINUES-TOGETHER",
    "In master-clock mode kvmclock carries on when the host moves all vCPUs' TSCs alike before any of them enters, as it "
      + "does to restore a machine, whichever vCPU enters first.",
    source:
      "Documentation/virt/kvm/devices/vcpu.rst, KVM_VCPU_TSC_OFFSET; arch/x86/kvm/x86.c, kvm_track_tsc_matching()",
    method:
      "Read on both vCPUs, set vcpu0's offset, then vcpu1's to the same, enter vcpu1 and read.",
    scenarios: [.tscOffset], since: "5.16",
    faults: ["kvm_track_tsc_matching() asks for no update on the vCPU that follows the first"]
  ) { timeline in
    timeline.carriesOn(
      across: "moves of a TSC after another one's", atLeast: 1, onMasterClock: true
    ) {
      ($0.isOffset || $0.isWrite(of: MSR.tsc, byHost: true)) && $0.isAmidOthers
    }
  }

  static let tscHostWriteContinuesNonmaster = Rule(
    "TSC-HOSTWRITE-CONTINUES-NONMASTER",
    "Without the master clock, too, kvmclock carries on when the host moves a vCPU's TSC, by KVM_SET_MSRS of IA32_TSC or by "
      + "KVM_VCPU_TSC_OFFSET.",
    source: "Documentation/virt/kvm/x86/msr.rst, field system_time (\"monotonic time\")",
    method:
      "Another clocksource than the TSC, or two vCPUs whose TSC offsets differ, take the master clock away. Read, move "
      + "the TSC again, enter, read.",
    scenarios: [.tscOffset, .tscWrite],
    faults: ["the record stays as it was before the TSC was moved"]
  ) { timeline in
    timeline.carriesOn(
      across: "moves of the TSC by the host without the master clock", atLeast: 1,
      onMasterClock: false
    ) {
      $0.isOffset || $0.isWrite(of: MSR.tsc, byHost: true)
    }
  }

  static let tscAdjustGuestWriteContinues = Rule(
    "TSCADJ-GUESTWRITE-CONTINUES",
    "kvmclock carries on when the guest writes IA32_TSC_ADJUST: its next instruction finds a record that fits the moved "
      + "TSC.",
    source: "arch/x86/kvm/x86.c, kvm_set_msr_common(), MSR_IA32_TSC_ADJUST (5.15)",
    method: "Read; WRMSR of hours forward and back, and read without an exit between.",
    scenarios: [.tscAdjust], since: "5.15",
    faults: ["kvm_set_msr_common() asks for no new record when the guest writes IA32_TSC_ADJUST"]
  ) { timeline in
    timeline.carriesOn(across: "writes of IA32_TSC_ADJUST by the guest", atLeast: 2) {
      $0.isWrite(of: MSR.tscAdjust, byHost: false)
    }
  }

  static let tscGuestWriteContinues = Rule(
    "TSC-GUESTWRITE-CONTINUES",
    "kvmclock carries on when the guest writes IA32_TSC: its next instruction finds a record that fits the moved TSC.",
    source: "Documentation/virt/kvm/x86/msr.rst, field system_time (\"monotonic time\")",
    method: "Read; WRMSR of a TSC far ahead and of a small one, and read without an exit between.",
    scenarios: [.tscWrite],
    faults: ["kvm_set_msr_common() asks for no new record when the guest writes IA32_TSC"]
  ) { timeline in
    timeline.carriesOn(across: "writes of IA32_TSC by the guest", atLeast: 2) {
      $0.isWrite(of: MSR.tsc, byHost: false)
    }
  }

  static let tscAdjustHostWriteNoMove = Rule(
    "TSCADJ-HOSTWRITE-NOMOVE",
    "A write of IA32_TSC_ADJUST by the host sets what the MSR reads as, and moves neither the guest's TSC nor kvmclock.",
    source: "Linux 0c899c25d754 (5.10); arch/x86/kvm/x86.c, kvm_set_msr_common()",
    method: "Read, KVM_SET_MSRS of hours forward and back, read the MSR back, enter, read.",
    scenarios: [.tscAdjust], since: "5.10",
    faults: [
      "kvm_set_msr_common() moves the TSC for the host's write of IA32_TSC_ADJUST, too",
      "the host's write is lost",
    ]
  ) { timeline in
    var findings = Findings()
    for move in timeline.tscMoves where move.isWrite(of: MSR.tscAdjust, byHost: true) {
      guard let shift = move.shift else { continue }
      guard let readBack = timeline.readBack(after: move) else {
        findings.lacks("IA32_TSC_ADJUST was not read back after KVM_SET_MSRS")
        continue
      }
      findings.expect(
        readBack == move.written, at: [move.event],
        "IA32_TSC_ADJUST to read back as \(move.written ?? 0), which KVM_SET_MSRS took",
        seen: "\(readBack)")
      findings.expect(
        shift.contains(0), at: [move.before.event, move.event, move.after.event],
        "vcpu\(move.vcpu)'s TSC to run on with the host's after IA32_TSC_ADJUST was set to \(readBack)",
        seen: "a TSC moved by \(shift.lower) to \(shift.upper) cycles")
      timeline.expectCarriesOn(across: move, &findings)
    }
    return findings.outcome(
      atLeast: 10, "readings back, TSCs and clocks after writes of IA32_TSC_ADJUST by the host",
      in: timeline)
  }
}

extension TSCMove {
  var isOffset: Bool {
    if case .setTSCOffset = event.action { true } else { false }
  }

  func isWrite(of msr: UInt32, byHost: Bool) -> Bool {
    switch event.action {
    case .hostWroteMSR(_, let index, _): byHost && index == Hex(msr)
    case .wroteMSR(let index, _, _): !byHost && index == Hex(msr)
    default: false
    }
  }

  /// What was written to an MSR.
  var written: Hex? {
    switch event.action {
    case .hostWroteMSR(_, _, let value), .wroteMSR(_, let value, _): value
    default: nil
    }
  }

  /// Whether the guest's own TSC shows the move.
  var tookEffect: Bool {
    if case .setTSCOffset(_, let cycles) = event.action, let tsc = after.tsc {
      let late = difference(tsc &- after.event.began.tsc, cycles)
      return late >= 0 && late <= Int128(after.event.ended.tsc) - Int128(after.event.began.tsc)
    }
    return shift.map { !$0.contains(0) } ?? false
  }

  var description: String {
    let who = event.actor == .host ? "the host" : "the guest"
    return switch event.action {
    case .setTSCOffset(_, let cycles): "KVM_VCPU_TSC_OFFSET was set to \(cycles)"
    case .setTSCKHz(_, let kHz, _): "KVM_SET_TSC_KHZ was called with \(kHz)"
    default:
      "\(who) wrote \(written?.description ?? "?") to "
        + (isWrite(of: MSR.tsc, byHost: event.actor == .host) ? "IA32_TSC" : "IA32_TSC_ADJUST")
    }
  }
}

extension Timeline {
  fileprivate func carriesOn(
    across what: String, atLeast minimum: Int, onMasterClock: Bool? = nil,
    _ concerns: (TSCMove) -> Bool
  ) -> Outcome {
    var findings = Findings()
    for move in tscMoves where concerns(move) {
      guard move.before.isStable == onMasterClock ?? move.before.isStable else { continue }
      guard move.tookEffect else {
        findings.lacks(withoutEffect(move))
        continue
      }
      expectCarriesOn(across: move, &findings)
    }
    if onMasterClock == true, observations.contains(where: { $0.vcpu != nil && !$0.isStable }) {
      findings.lacks("the VM is not in master-clock mode: PVCLOCK_TSC_STABLE_BIT is clear")
    }
    // Where moves have no effect, what they lead to does not come about either.
    if let idle = tscMoves.first(where: { $0.event.actor == .host && !$0.tookEffect }) {
      findings.lacks(withoutEffect(idle))
    }
    return findings.outcome(atLeast: minimum, what, in: self)
  }

  fileprivate func expectCarriesOn(across move: TSCMove, _ findings: inout Findings) {
    findings.expect(
      difference(move.after.value, move.before.value),
      in: allowedAdvance(from: move.before, to: move.after), limit: Self.widestUseful,
      at: [move.before.event, move.event, move.after.event],
      "vcpu\(move.vcpu)'s clock to go on from \(nanoseconds(Int128(move.before.value))) by an amount",
      why:
        "the time that CLOCK_MONOTONIC_RAW counted; \(move.description), which moved the guest's TSC and not the clock"
    )
  }

  /// Why a move proves nothing on this host.
  private func withoutEffect(_ move: TSCMove) -> String {
    let read = readBack(after: move).map { "it reads back as \($0), and " } ?? ""
    guard let shift = move.shift else { return "\(move.description), and no reading followed it" }
    return "\(move.description): \(read)the guest's TSC did not follow, it is "
      + "\(shift.lower) to \(shift.upper) cycles from where it was"
  }

  /// What an offset or an MSR that was set reads as afterwards, before anything else is done to it.
  fileprivate func readBack(after move: TSCMove) -> Hex? {
    for event in history.events where event.number > move.event.number {
      switch (event.action, move.event.action) {
      case (.tscOffset(move.vcpu, let cycles), .setTSCOffset): return Hex(cycles)
      case (.hostReadMSR(move.vcpu, let msr, let value), .hostWroteMSR(_, let written, _))
      where msr == written:
        return value
      case (.readMSR(let msr, let value, nil), .wroteMSR(let written, _, _))
      where msr == written && event.actor == .vcpu(move.vcpu):
        return value
      default: break
      }
      if TSCMoves.vcpu(movedBy: event) == move.vcpu { return nil }
    }
    return nil
  }
}
