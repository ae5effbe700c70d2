internal import PVClock

// What a VMM does with the clock of a guest that it stops: pause, save and restore, migration; and at a reset and a plug.

extension Rule {
  static let vmmStops: [Rule] = [
    .pauseClock, .pauseTellsGuest, .snapshotClock, .snapshotTellsGuest, .snapshotClockAndTSC,
    .migrateClock, .migrateTellsGuest, .migrateFailedKeepsTime, .resetKeepsTime, .plugOneClock,
    .plugKeepsTime, .replugKeepsTime, .vmmWallClock,
  ]

  private static let control = Source.document(
    "Documentation/virt/kvm/api.rst, 4.70 KVM_KVMCLOCK_CTRL")
  private static let setClock = Source.document(
    "Documentation/virt/kvm/api.rst, 4.30 KVM_SET_CLOCK (migration)")

  static let pauseClock = Rule(
    "PAUSE-CLOCK",
    "Over a pause the guest's clock does what is declared, or else the same thing each time: it stands still, or it counts the "
      + "pause; nothing between.",
    sources: [setClock, .guest("guests whose timers are to expire, or not to, after a pause")],
    method: "Ask all vCPUs; pause, wait, resume; ask again; as often as ten times.",
    scenarios: [.vmmPause], coverage: [.observations(2, "advances over a pause")]
  ) { timeline, findings in
    findings.expectPolicy(over: .pause, in: timeline.passages.filter(\.isPause), timeline) {
      $0.allowedAdvance(from: $1, to: $2, $3, timeline)
    }
  }

  static let pauseTellsGuest = tellsGuest(
    "PAUSE-TELLS-GUEST",
    "A guest that was paused finds PVCLOCK_GUEST_STOPPED in every vCPU's record, so that its watchdogs do not take the pause for "
      + "a lockup.",
    scenarios: [.vmmPause], what: "paused vCPUs"
  ) { $0.isPause && $0.did(.resume) }

  static let snapshotClock = Rule(
    "SNAPSHOT-CLOCK",
    "A restored guest's clock does what is declared, or else the same thing each time: it goes on from what was saved, or it "
      + "counts the time since; nothing between, also when one file is restored twice. While it is paused, before the save and after "
      + "the restore, it does what it does over a pause.",
    sources: [setClock],
    method:
      "Ask all vCPUs; pause and resume once; pause, wait, save to a file, end the VMM; start another one from the file, resume; ask "
      + "again; twice from one file, the second time after another wait, and with both alive.",
    scenarios: [.vmmSnapshot], coverage: [.observations(2, "advances from save to restore")]
  ) { timeline, findings in
    let paused =
      timeline.declared(over: .pause) ?? timeline.seenPolicy(overPausesIn: timeline.passages)
    findings.expectPolicy(
      over: .restore, in: timeline.passages.filter { $0.did(.restore) }, timeline
    ) { $0.allowedAdvance(from: $1, to: $2, restored: $3, paused: paused, timeline) }
  }

  static let snapshotTellsGuest = tellsGuest(
    "SNAPSHOT-TELLS-GUEST",
    "A restored guest finds PVCLOCK_GUEST_STOPPED in every vCPU's record.",
    scenarios: [.vmmSnapshot], what: "restored vCPUs"
  ) { $0.did(.restore) }

  static let snapshotClockAndTSC = Rule(
    "SNAPSHOT-CLOCK-AND-TSC",
    "By how much the guest's clock and its TSC come apart from a save to the restore.",
    sources: [
      .guest("guests whose clocksource is the TSC, and whose wall clock is set by kvmclock")
    ],
    method: "Compute the record of before at the TSC of the first answer after the restore.",
    scenarios: [.vmmSnapshot], isObservation: true
  ) { timeline, findings in
    for passage in timeline.passages where passage.did(.restore) {
      guard let before = passage.before[0], let after = passage.after[0] else { continue }
      let apart = difference(
        after.result.last.value, before.page.systemTime(atTSC: after.result.last.tsc))
      findings.report(
        "over a gap of \(short(passage.stop.lower)) the clock \(apart < 0 ? "fell behind" : "went ahead of") the TSC by "
          + short(abs(apart)))
    }
  }

  static let migrateClock = Rule(
    "MIGRATE-CLOCK",
    "Over a live migration the guest's clock does not go back, and advances by no more than the time that passed and no less than "
      + "the time that the guest ran.",
    sources: [setClock],
    method:
      "Ask all vCPUs; migrate to another process on this host; ask again. The same with a pause on the way.",
    scenarios: [.vmmMigration], coverage: [.observations(2, "advances over a migration")]
  ) { timeline, findings in
    for passage in timeline.passages where passage.did(.migrate) {
      for (vcpu, before, after) in passage.clocks {
        let all = before.event.elapsed(to: after.event)
        let still = passage.allowedAdvance(from: before, to: after, .standsStill, timeline)
        findings.expect(
          difference(after.result.last.value, before.result.last.value),
          in: Interval(still.lower, all.upper + timeline.slack(until: after.event)),
          at: [before.event] + passage.verbs + [after.event],
          "the advance of vcpu\(vcpu)'s clock",
          why:
            "the time that passed, with or without the \(short(passage.stop.upper)) of the migration"
        )
      }
    }
  }

  static let migrateTellsGuest = Rule(
    "MIGRATE-TELLS-GUEST",
    "Whether a migrated guest finds PVCLOCK_GUEST_STOPPED in its records.",
    sources: [control], method: "Look at the records after a live migration.",
    scenarios: [.vmmMigration], isObservation: true
  ) { timeline, findings in
    for passage in timeline.passages where passage.did(.migrate) {
      let told = passage.both.filter { $0.after.isTold }.map(\.vcpu)
      guard !passage.both.isEmpty else { continue }
      findings.report(
        told.count == passage.both.count
          ? "every vCPU is told" : told.isEmpty ? "no vCPU is told" : "only vcpu\(told[0]) is told")
    }
  }

  static let migrateFailedKeepsTime = keepsTime(
    "MIGRATE-FAILED-KEEPS-TIME",
    "A migration that fails leaves the guest's clock running as if nothing had been tried.",
    method: "Migrate to a place where nobody listens; ask before and after.",
    scenarios: [.vmmMigration]
  ) { $0.failed(.migrate) && !$0.isStopped }

  static let resetKeepsTime = keepsTime(
    "RESET-KEEPS-TIME",
    "A reset of the machine does not set its clock: the guest that boots again reads the time since the machine was made.",
    method: "Ask; reset; let the guest boot and register its records again; ask.",
    scenarios: [.vmmReset]
  ) { $0.did(.reset) && !$0.isStopped }

  static let plugOneClock = Rule(
    "PLUG-ONE-CLOCK",
    "A vCPU that is plugged while the guest runs has the clock of the others.",
    sources: [
      .document("Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW, flags, bit 0")
    ], method: "Plug a vCPU, start it by INIT; compare its clock with vCPU 0's before and after.",
    scenarios: [.vmmHotplug], coverage: [.observations(1, "answers of plugged vCPUs")]
  ) { timeline, findings in
    var plugged: Set<Int> = []
    for passage in timeline.passages {
      if passage.did(.plug) {
        plugged.formUnion(passage.after.keys.filter { passage.before[$0] == nil })
      }
      guard let first = passage.after[0] else { continue }
      for vcpu in plugged.sorted() {
        guard let answer = passage.after[vcpu], first.isStable, answer.isStable else { continue }
        findings.expectOneClock(vcpu, answer, beside: first, timeline)
      }
    }
  }

  static let plugKeepsTime = keepsTime(
    "PLUG-KEEPS-TIME", "Plugging a vCPU, and unplugging one, does not set the clock of the others.",
    method: "Ask; plug a vCPU and start it; ask; unplug it; ask.", scenarios: [.vmmHotplug]
  ) { ($0.did(.plug) || $0.did(.unplug)) && !$0.isStopped }

  static let replugKeepsTime = keepsTime(
    "REPLUG-KEEPS-TIME",
    "Plugging a vCPU that was plugged and unplugged before does not set the clock of the others: the question of 2015.",
    method: "Plug a vCPU, start it, unplug it, plug it again, start it; ask before and after.",
    scenarios: [.vmmHotplug]
  ) { $0.did(.plug) && $0.plugs > 0 && !$0.isStopped }

  static let vmmWallClock = Rule(
    "VMM-WALL-CLOCK",
    "By how much the guest's wall clock and system time together are off CLOCK_REALTIME of the host.",
    sources: [.document("Documentation/virt/kvm/x86/msr.rst, MSR_KVM_WALL_CLOCK_NEW")],
    method:
      "The guest writes MSR_KVM_WALL_CLOCK_NEW; add its system time; read CLOCK_REALTIME before and after.",
    scenarios: [.vmmRun], isObservation: true
  ) { timeline, findings in
    let events = timeline.history.events
    for (index, event) in events.enumerated() {
      guard case .readWallClock(_, let seconds, let nanoseconds) = event.action,
        let answer = events.last(where: {
          if case .sampled = $0.action {
            $0.actor == .vcpu(0) && $0.began == event.began
          } else {
            false
          }
        }), case .sampled(_, let result) = answer.action,
        let before = events[..<index].last(where: \.isRealtime),
        case .hostClock(_, let early) = before.action,
        let after = events[index...].first(where: \.isRealtime),
        case .hostClock(_, let late) = after.action
      else { continue }
      let guest = UInt64(seconds) &* 1_000_000_000 &+ UInt64(nanoseconds) &+ result.last.value
      let ahead = Interval(difference(guest, late), difference(guest, early))
      findings.report(
        ahead.contains(0)
          ? "none, to \(short(ahead.width))"
          : "\(short(max(ahead.lower, -ahead.upper))) or more \(ahead.lower > 0 ? "ahead" : "behind")"
      )
    }
  }

  /// Every vCPU of a guest that was stopped is told.
  private static func tellsGuest(
    _ id: String, _ statement: String, scenarios: [ScenarioName], what: String,
    matches: @escaping @Sendable (Passage) -> Bool
  ) -> Rule {
    Rule(
      id, statement,
      sources: [control, .guest("Linux, kernel/watchdog.c: kvm_check_and_clear_guest_paused()")],
      method: "The guest clears the flag; stop it, let it go on, look at every record.",
      scenarios: scenarios, coverage: [.observations(2, what)]
    ) { timeline, findings in
      for passage in timeline.passages where matches(passage) {
        for (vcpu, before, after) in passage.both where !before.isStopped {
          findings.expect(
            after.isTold, at: [before.event] + passage.verbs + [after.event],
            "PVCLOCK_GUEST_STOPPED set in vcpu\(vcpu)'s record after a stop of "
              + "\(short(passage.stop.lower)) or more",
            seen: "flags \(Hex(UInt64(after.page.flags.rawValue)))")
        }
      }
    }
  }
}

extension Passage.Answer {
  /// Whether some record that was seen since the last question has the flag.
  fileprivate var isTold: Bool { result.pages.contains { $0.flags.contains(.guestStopped) } }
}

extension Event {
  fileprivate var isRealtime: Bool {
    if case .hostClock("CLOCK_REALTIME", _) = action { true } else { false }
  }
}

extension Findings {
  /// Over a stop the clock does what is declared, or what it did first.
  fileprivate mutating func expectPolicy(
    over verb: VMMVerb, in passages: [Passage], _ timeline: Timeline,
    allows: (Passage, Passage.Answer, Passage.Answer, ClockPolicy) -> Interval
  ) {
    var policy = timeline.declared(over: verb)
    let isDeclared = policy != nil
    for passage in passages {
      for (vcpu, before, after) in passage.clocks {
        let advance = difference(after.result.last.value, before.result.last.value)
        let allowed = Dictionary(
          uniqueKeysWithValues: ClockPolicy.allCases.map {
            ($0, allows(passage, before, after, $0))
          })
        let still = allowed[.standsStill]!
        let on = allowed[.runsOn]!
        let events = [before.event] + passage.verbs + [after.event]
        guard still.upper < on.lower else {
          cannotTell(
            "a stop of \(short(passage.stop.lower)) is too short to tell from \(short(still.width)) of uncertainty"
          )
          continue
        }
        let does = ClockPolicy.allCases.first { allowed[$0]!.contains(advance) }
        policy = policy ?? does
        let wanted = policy.map {
          "[\(nanoseconds(allowed[$0]!.lower)), \(nanoseconds(allowed[$0]!.upper))]: it \($0.phrase)"
        }
        expect(
          does != nil && does == policy, at: events,
          "the advance of vcpu\(vcpu)'s clock over a stop of \(short(passage.stop.lower)) in "
            + (wanted.map { $0 + (isDeclared ? ", as is declared" : ", as before") }
              ?? "[\(nanoseconds(still.lower)), \(nanoseconds(still.upper))] if it stands still, or "
              + "[\(nanoseconds(on.lower)), \(nanoseconds(on.upper))] if it runs on"),
          seen: nanoseconds(advance))
      }
    }
    if let policy { detail = "the clock \(policy.phrase)" }
  }
}

extension Timeline {
  /// What the clock does over a pause, as far as one can tell.
  fileprivate func seenPolicy(overPausesIn passages: [Passage]) -> ClockPolicy? {
    for passage in passages where passage.isPause {
      for (_, before, after) in passage.clocks {
        let advance = difference(after.result.last.value, before.result.last.value)
        let fits = ClockPolicy.allCases.filter {
          passage.allowedAdvance(from: before, to: after, $0, self).contains(advance)
        }
        if fits.count == 1 { return fits[0] }
      }
    }
    return nil
  }
}

extension Passage {
  /// What the clock of a vCPU may have advanced by over a save and a restore.
  ///
  /// - Parameters:
  ///   - policy: what it does from the save to the restore.
  ///   - paused: what it does while the guest is paused before and after; nil if nobody knows.
  fileprivate func allowedAdvance(
    from before: Answer, to after: Answer, restored policy: ClockPolicy, paused: ClockPolicy?,
    _ timeline: Timeline
  ) -> Interval {
    func event(_ verb: VMMVerb) -> Event? {
      verbs.first { $0.vmm?.verb == verb && $0.vmm?.failure == nil }
    }
    guard let pause = event(.pause), let save = event(.save), let restore = event(.restore) else {
      return allowedAdvance(from: before, to: after, policy, timeline)
    }
    let resume = event(.resume) ?? restore
    // A clock that is set at the restore may run from then on, or from the resume.
    let held = pause.elapsed(to: save)
    let gap = Interval(save.elapsed(to: restore).lower, save.elapsed(to: resume).upper)
    let tail = Interval(0, restore.elapsed(to: resume).upper)
    let stop =
      switch (paused, policy) {
      case (.standsStill?, .standsStill): self.stop
      case (.standsStill?, .runsOn): held + tail
      case (.runsOn?, .standsStill): gap
      case (.runsOn?, .runsOn): Interval(0, 0)
      case (nil, .standsStill): Interval(gap.lower, self.stop.upper)
      case (nil, .runsOn): Interval(0, held.upper + tail.upper)
      }
    let elapsed = before.event.elapsed(to: after.event)
    return Interval(max(0, elapsed.lower - stop.upper), max(0, elapsed.upper - stop.lower))
      .widened(by: timeline.slack(until: after.event))
  }
}

extension ClockPolicy {
  fileprivate var phrase: String {
    switch self {
    case .standsStill: "stands still"
    case .runsOn: "counts the stop"
    }
  }
}
