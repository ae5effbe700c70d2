internal import PVClock

// Kvmclock carries on when a vCPU's TSC is moved.

extension Rule {
  static let tscWrites: [Rule] = [
    .tscOffsetContinues, .tscHostWriteContinues, .tscHostWriteContinuesTogether,
    .tscHostWriteContinuesNonmaster,
    .tscAdjustGuestWriteContinues, .tscAdjustHostWriteNoMove, .tscGuestWriteContinues,
    .tscEveryWayMoves,
  ]

  /// The formula takes the moved TSC, so tsc_timestamp has to be moved too.
  private static let formula = Source.msr(
    "MSR_KVM_SYSTEM_TIME_NEW (tsc_timestamp, and the formula that guests use)")

  static let tscEveryWayMoves = Rule(
    "TSC-EVERY-WAY-MOVES",
    "Where one of the ways to move a guest's TSC moves it, the others do, too: KVM_VCPU_TSC_OFFSET, IA32_TSC written by the "
      + "host and by the guest, IA32_TSC_ADJUST written by the guest.",
    sources: [
      .document(
        "Intel SDM volume 3, Time-Stamp Counter (WRMSR of IA32_TSC and of IA32_TSC_ADJUST)"),
      .document("Documentation/virt/kvm/devices/vcpu.rst, KVM_VCPU_TSC_OFFSET"),
      .api("4.19 KVM_SET_MSRS"),
    ],
    method:
      "On one vCPU, each way by hours, one after the other: read, move, enter, read the guest's TSC beside the host's.",
    scenarios: [.tscWays],
    coverage: [
      .each(
        ["IA32_TSC by the host", "IA32_TSC by the guest", "IA32_TSC_ADJUST by the guest"], "ways"),
      .observations(3, "moves"),
    ],
    needs: [.tscWrites]
  ) { timeline, findings in
    let moves = timeline.tscMoves
    guard moves.contains(where: \.tookEffect) else {
      return findings.lacks(
        "no way moves the guest's TSC: "
          + moves.map(\.withoutEffect).joined(separator: "; "))
    }
    for move in moves {
      findings.expect(
        move.tookEffect, at: [move.before.event, move.event, move.after.event],
        "a TSC that follows when \(move.description)", seen: move.withoutEffect)
      findings.cover(move.way, of: "ways")
    }
  }

  static let tscOffsetContinues = Rule(
    "TSCOFFSET-CONTINUES",
    "In master-clock mode kvmclock carries on when the host sets a vCPU's TSC offset to any value: at its next entry the "
      + "vCPU has a record that fits the moved TSC.",
    sources: [
      .document(
        "Documentation/virt/kvm/devices/vcpu.rst, KVM_VCPU_TSC_OFFSET (a VMM sets the clock first, the offsets after it)"
      ),
      formula,
    ],
    method:
      "Read, set KVM_VCPU_TSC_OFFSET to 0, 2^63, 2^64-1 and seeded values, enter, read; on a single vCPU, and on two in "
      + "turn. Counts where the guest's RDTSC shows the offset.",
    scenarios: [.tscOffset],
    coverage: [
      .observations(3, "settings of the TSC offset"), .different(3, "TSC offsets"),
    ],
    needs: [.masterClock, .tscOffset]
  ) { timeline, findings in
    findings.expectCarriesOn(in: timeline, onMasterClock: true) {
      $0.isOffset && !$0.isBeforeOthers
    } counted: {
      findings, move in
      if case .setTSCOffset(_, let cycles) = move.event.action {
        findings.cover("\(cycles)", of: "TSC offsets")
      }
    }
  }

  static let tscHostWriteContinues = Rule(
    "TSC-HOSTWRITE-CONTINUES",
    "In master-clock mode kvmclock carries on when the host writes a vCPU's IA32_TSC.",
    sources: [.commit("Linux 7f187922ddf6 (3.19)"), formula],
    method:
      "Read, KVM_SET_MSRS of IA32_TSC to values far from the TSC's, enter, read; on a single vCPU, and on two in turn.",
    scenarios: [.tscWrite],
    coverage: [.observations(2, "writes of IA32_TSC by the host")],
    needs: [.masterClock, .tscWrites]
  ) { timeline, findings in
    findings.expectCarriesOn(in: timeline, onMasterClock: true) {
      $0.isWrite(of: MSR.tsc, byHost: true) && !$0.isBeforeOthers
    }
  }

  static let tscHostWriteContinuesTogether = Rule(
    "TSC-HOSTWRITE-CONTINUES-TOGETHER",
    "In master-clock mode kvmclock carries on when the host moves the TSCs of several vCPUs before any of them enters, as "
      + "it does to restore a machine, even if one that was moved later enters first.",
    sources: [
      .document("Documentation/virt/kvm/devices/vcpu.rst, KVM_VCPU_TSC_OFFSET (how to migrate)"),
      formula,
    ],
    method:
      "Read on both vCPUs, set the offsets of both to one value, vcpu0's first; enter and read on vcpu1 first; the same "
      + "with vcpu0 first.",
    scenarios: [.tscOffset],
    coverage: [
      .observations(1, "moves of several TSCs before the first entry"),
      .count(1, laterOnes),
    ],
    needs: [.masterClock, .tscOffset]
  ) { timeline, findings in
    findings.expectCarriesOn(in: timeline, onMasterClock: true) {
      ($0.isOffset || $0.isWrite(of: MSR.tsc, byHost: true)) && $0.isBeforeOthers
    } counted: {
      findings, move in
      if !move.wasMovedFirst { findings.count(laterOnes) }
    }
  }

  private static let laterOnes = "vCPUs that were moved later and entered first"

  static let tscHostWriteContinuesNonmaster = Rule(
    "TSC-HOSTWRITE-CONTINUES-NONMASTER",
    "Without the master clock, too, kvmclock carries on when the host moves a vCPU's TSC.",
    sources: [formula],
    method:
      "Another clocksource than the TSC, or two vCPUs whose TSC offsets differ, take the master clock away. Read, move "
      + "the TSC by KVM_VCPU_TSC_OFFSET or by KVM_SET_MSRS of IA32_TSC, enter, read.",
    scenarios: [.tscOffset, .tscWrite],
    coverage: [.observations(1, "moves of the TSC by the host without the master clock")],
    needs: [.tscWrites]
  ) { timeline, findings in
    findings.expectCarriesOn(in: timeline, onMasterClock: false) {
      $0.isOffset || $0.isWrite(of: MSR.tsc, byHost: true)
    }
  }

  static let tscAdjustGuestWriteContinues = Rule(
    "TSCADJ-GUESTWRITE-CONTINUES",
    "kvmclock carries on when the guest writes IA32_TSC_ADJUST: its next instruction finds a record that fits the moved "
      + "TSC.",
    sources: [.commit("Linux d9130a2dfdd4 (5.15)"), formula],
    method: "Read; WRMSR of hours forward and back, and read without an exit between.",
    scenarios: [.tscAdjust],
    coverage: [
      .observations(2, "writes of IA32_TSC_ADJUST by the guest"),
      .count(2, "readings in the entry of the write"),
    ],
    needs: [.tscWrites]
  ) { timeline, findings in
    findings.expectCarriesOn(in: timeline) {
      $0.isWrite(of: MSR.tscAdjust, byHost: false)
    } counted: {
      if $1.isReadInSameEntry { $0.count("readings in the entry of the write") }
    }
  }

  static let tscGuestWriteContinues = Rule(
    "TSC-GUESTWRITE-CONTINUES",
    "kvmclock carries on when the guest writes IA32_TSC: its next instruction finds a record that fits the moved TSC.",
    sources: [formula],
    method: "Read; WRMSR of a TSC far ahead and of a small one, and read without an exit between.",
    scenarios: [.tscWrite],
    coverage: [
      .observations(2, "writes of IA32_TSC by the guest"),
      .count(2, "readings in the entry of the write"),
    ],
    needs: [.tscWrites]
  ) { timeline, findings in
    findings.expectCarriesOn(in: timeline) {
      $0.isWrite(of: MSR.tsc, byHost: false)
    } counted: {
      if $1.isReadInSameEntry { $0.count("readings in the entry of the write") }
    }
  }

  static let tscAdjustHostWriteNoMove = Rule(
    "TSCADJ-HOSTWRITE-NOMOVE",
    "A write of IA32_TSC_ADJUST by the host sets the value that the MSR reads as, and moves neither the guest's TSC nor "
      + "kvmclock.",
    sources: [.commit("Linux 0c899c25d754 (5.10), with a test that says so")],
    method: "Read, KVM_SET_MSRS of hours forward and back, read the MSR back, enter, read.",
    scenarios: [.tscAdjust],
    coverage: [
      .observations(
        10, "values read back, TSCs and clocks after writes of IA32_TSC_ADJUST by the host")
    ]
  ) { timeline, findings in
    for move in timeline.tscMoves where move.isWrite(of: MSR.tscAdjust, byHost: true) {
      guard let shift = move.shift else { continue }
      guard let readBack = move.readBack else {
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
      findings.expectCarriesOn(across: move, in: timeline)
    }
  }
}

extension Findings {
  /// The clock carries on across each move of a TSC that `concerns`.
  ///
  /// - Parameters:
  ///   - onMasterClock: whether the reading before the move has to show bit 0; nil if that does not matter.
  ///   - counted: is told of each move whose readings were near enough to count.
  fileprivate mutating func expectCarriesOn(
    in timeline: Timeline, onMasterClock: Bool? = nil, across concerns: (TSCMove) -> Bool,
    counted: (inout Findings, TSCMove) -> Void = { _, _ in }
  ) {
    for move in timeline.tscMoves where concerns(move) {
      guard move.before.isStable == onMasterClock ?? move.before.isStable else { continue }
      guard move.tookEffect else {
        lacks(move.withoutEffect)
        continue
      }
      if expectCarriesOn(across: move, in: timeline) { counted(&self, move) }
    }
    if onMasterClock == true,
      timeline.observations.contains(where: { $0.vcpu != nil && !$0.isStable })
    {
      lacks("the VM is not in master-clock mode: PVCLOCK_TSC_STABLE_BIT is clear")
    }
    // Where moves have no effect, the state that other moves lead to does not come about.
    if let idle = timeline.tscMoves.first(where: { $0.event.actor == .host && !$0.tookEffect }) {
      lacks(idle.withoutEffect)
    }
  }

  @discardableResult
  fileprivate mutating func expectCarriesOn(across move: TSCMove, in timeline: Timeline) -> Bool {
    expectAdvance(
      from: move.before, to: move.after, over: [move.event], in: timeline,
      why:
        "the time that CLOCK_MONOTONIC_RAW counted; \(move.description), which moved the guest's TSC and not the clock",
      fits: move.isClockOffByTheMove(
        allowed: timeline.allowedAdvance(from: move.before, to: move.after)))
  }
}
