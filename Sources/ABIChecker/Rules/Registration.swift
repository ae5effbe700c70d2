internal import PVClock

// Writes of the system-time MSR.

extension Rule {
  static let registration: [Rule] = [
    .systimeEnable, .systimeRewriteKeepsTime, .systimeRewriteStorm, .systimeMoveFreezesOld,
    .systimeDisableFreezes, .systimeReenableKeepsTime, .msrReadback,
  ]

  private static let systemTime = Source.msr("MSR_KVM_SYSTEM_TIME_NEW")

  static let systimeEnable = Rule(
    "SYSTIME-ENABLE",
    "A write of the system-time MSR with bit 0 set makes the record at the address valid before the guest's "
      + "next instruction.",
    sources: [
      systemTime,
      .guest("Linux, arch/x86/kernel/kvmclock.c, kvm_register_clock()"),
    ],
    method:
      "Fill memory with 0xa5; the guest writes the MSR and reads the record without an exit between.",
    scenarios: [.registration],
    coverage: [
      .observations(2, "registrations in memory that held 0xa5"), .different(2, "vCPUs"),
    ]
  ) { timeline, findings in
    findings.expectNoFault(in: timeline)
    for (write, read) in timeline.writesWithRead {
      guard case .read(let address, _, let reading, let settled) = read.action,
        timeline.wasFilled(address, before: write)
      else { continue }
      let page = reading.page
      let stale: UInt64 = 0xa5a5_a5a5_a5a5_a5a5
      findings.expect(
        settled && page.version % 2 == 0 && page.systemTime != stale && page.tscTimestamp != stale
          && page.scale.isNormalized,
        at: [write, read],
        "an even version, and system_time, tsc_timestamp and a multiplier of at least 2^31 written by the host",
        seen: describe(page))
      findings.cover(vcpu: write.vcpu)
    }
  }

  static let systimeRewriteKeepsTime = Rule(
    "SYSTIME-REWRITE-KEEPS-TIME",
    "A guest may write the system-time MSR as often as it likes, on any vCPU, with the same or another address; "
      + "system time carries on without a restart or a step.",
    sources: [
      .guest("SLES 10's 2.6.16 writes the MSR again and again"),
      .commit("Linux b7e60c5aedd2 (4.2), which broke it"),
      systemTime,
    ],
    method:
      "Read, wait, write the MSR, read at once; compare with CLOCK_MONOTONIC_RAW around both readings.",
    scenarios: [.rewrite], everywhere: true,
    coverage: [
      .observations(6, "writes of the MSR"), .different(2, "vCPUs"),
      .each(["the same address", "another address"], "writes with"),
    ]
  ) { timeline, findings in
    let why =
      "the time that CLOCK_MONOTONIC_RAW counted between the two readings; a write of the MSR neither stops nor restarts "
      + "the clock"
    for isSame in [true, false] {
      let before = findings.observed
      findings.expectTimeKept(in: timeline, why: why) { step in
        guard let write = step.systemTimeWrite, let record = write.record, !write.isOldMSR,
          !write.isByHost, (step.before.record == record) == isSame
        else { return nil }
        return step.vcpu
      }
      guard findings.observed > before else { continue }
      findings.cover(isSame ? "the same address" : "another address", of: "writes with")
    }
  }

  static let systimeRewriteStorm = Rule(
    "SYSTIME-REWRITE-STORM",
    "While one vCPU writes the system-time MSR back to back, no vCPU's clock goes back.",
    sources: [.msr("MSR_KVM_SYSTEM_TIME_NEW, system_time (\"monotonic time\")")],
    method:
      "vCPU 0 writes and reads 1000 times. vCPU 1 reads its own record in ring 3 and counts changes of vCPU 0's version "
      + "between two readings: these show how much ran side by side.",
    scenarios: [.storm], coverage: [.observations(2, "loops"), .count(1, Storm.enough)],
    needs: [.masterClock, .twoCPUs]
  ) { timeline, findings in
    findings.isRace = true
    var storm = Storm()
    for event in timeline.history.events {
      guard case .looped(let guest, let result) = event.action else { continue }
      if guest == "rewriter" { storm.write(result) } else { storm.read(result) }
      guard result.unstable == 0 else { continue }
      findings.expect(
        result.backwards == 0, at: [event],
        "no step back in \(result.reads) readings of \(guest) on \(event.actor)",
        seen: describeSteps(result))
    }
    storm.conclude(&findings, isStable: true)
  }

  static let systimeMoveFreezesOld = Rule(
    "SYSTIME-MOVE-FREEZES-OLD",
    "Once a vCPU has registered another address, its old record is not written any more.",
    sources: [systemTime],
    method:
      "Register A, then B; set the clock from the host and enter; A keeps every byte, B changes.",
    scenarios: [.freeze], coverage: [.observations(1, "moves of a record")]
  ) { timeline, findings in
    findings.expectFrozen(in: timeline) { how, _ in how == .moved }
  }

  static let systimeDisableFreezes = Rule(
    "SYSTIME-DISABLE-FREEZES",
    "A write with bit 0 clear ends the updates, whatever the other bits are; the last record stays as it is.",
    sources: [.msr("MSR_KVM_SYSTEM_TIME_NEW (\"until anything with bit0 == 0 is written to it\")")],
    method:
      "Write 0, and the address with bit 0 clear; set the clock from the host and enter; the record keeps every byte while "
      + "another vCPU's changes.",
    scenarios: [.freeze],
    coverage: [
      .observations(2, "writes with bit 0 clear"),
      .each(["0", "another value"], "values with bit 0 clear"),
    ]
  ) { timeline, findings in
    findings.expectFrozen(in: timeline) { how, _ in how == .disabled }
  }

  static let systimeReenableKeepsTime = Rule(
    "SYSTIME-REENABLE-KEEPS-TIME",
    "Time goes on while the clock is disabled: it does not restart when it is enabled again.",
    sources: [systemTime, .commit("Linux b7e60c5aedd2 (4.2), which broke it")],
    method: "Read, write 0, wait, register again, read; compare with CLOCK_MONOTONIC_RAW.",
    scenarios: [.freeze], coverage: [.observations(1, "pairs of disable and enable")]
  ) { timeline, findings in
    findings.expectTimeKept(
      in: timeline,
      why: "the time that CLOCK_MONOTONIC_RAW counted; the clock runs while it is disabled"
    ) { step in
      let wasDisabled = step.before.systemTime.map { $0.record == nil } ?? false
      return wasDisabled && step.systemTimeWrite?.record != nil ? step.vcpu : nil
    }
  }

  static let msrReadback = Rule(
    "MSR-READBACK",
    "RDMSR and KVM_GET_MSRS return the last value written to the system-time MSR, all 64 bits, even if no record "
      + "can be served at the address; 0x12 and 0x4b564d01 are one value.",
    sources: [.msr("MSR_KVM_SYSTEM_TIME"), .x86("kvm_get_msr_common()")],
    method:
      "Write a fresh value through each MSR, on each vCPU; read it through both, as guest and as host.",
    scenarios: [.readback],
    coverage: [
      .observations(8, "readings of the MSR"),
      .each(
        ["guest 0x12", "guest 0x4b564d01", "host 0x12", "host 0x4b564d01"], "readings by"),
      .each(["0x12", "0x4b564d01"], "values written through"),
    ]
  ) { timeline, findings in
    for step in timeline.steps {
      let access: (msr: Hex, value: Hex, reader: String)
      switch step.event.action {
      case .wroteMSR(let msr, let value, let fault?) where MSR.isSystemTime(msr):
        findings.expect(
          false, at: [step.event], "no fault from a write of \(value) to \(msr)",
          seen: "exception vector \(fault.vector)")
        continue
      case .readMSR(let msr, _, let fault?) where MSR.isSystemTime(msr):
        findings.expect(
          false, at: [step.event], "no fault from a read of \(msr)",
          seen: "exception vector \(fault.vector)")
        continue
      case .readMSR(let msr, let value, nil): access = (msr, value, "guest")
      case .hostReadMSR(_, let msr, let value): access = (msr, value, "host")
      default: continue
      }
      guard MSR.isSystemTime(access.msr), let write = step.before.systemTime else { continue }
      findings.cover("\(access.reader) \(access.msr)", of: "readings by")
      findings.cover(write.msr.description, of: "values written through")
      findings.expect(
        access.value == Hex(write.value), at: [write.event, step.event],
        "\(Hex(write.value)), the last value written on vcpu\(step.vcpu ?? 0)",
        seen: "\(access.value) read by the \(access.reader) through \(access.msr)")
    }
  }
}

extension Findings {
  /// No write of a system-time MSR by a guest raised an exception.
  mutating func expectNoFault(in timeline: Timeline) {
    for event in timeline.history.events {
      guard case .wroteMSR(let msr, let value, let fault?) = event.action, MSR.isSystemTime(msr)
      else { continue }
      expect(
        false, at: [event], "no fault from a write of \(value) to \(msr)",
        seen: "exception vector \(fault.vector)")
    }
  }
}

extension Timeline {
  /// Each write of the system-time MSR that was followed by a clock read in the same entry.
  var writesWithRead: [(write: Event, read: Event)] {
    let events = history.events
    return zip(events, events.dropFirst()).filter { write, read in
      guard case .wroteMSR(let msr, let value, nil) = write.action, MSR.isSystemTime(msr),
        case .read(let address, _, _, _) = read.action
      else { return false }
      return write.actor == read.actor && write.began == read.began
        && address.value == value.value & ~1
    }.map { (write: $0.0, read: $0.1) }
  }

  /// How many events come before this one: the numbers rise, but for a history that somebody changed.
  private func place(of event: Event) -> Int {
    var (low, high) = (0, history.events.count)
    while low < high {
      let middle = (low + high) / 2
      if history.events[middle].number < event.number {
        low = middle + 1
      } else {
        high = middle
      }
    }
    return low
  }

  /// Whether the bytes at `address` held a fill pattern that no host writes when `event` began.
  func wasFilled(_ address: Hex, count: Int = 32, before event: Event) -> Bool {
    let wanted = Interval(Int128(address.value), Int128(address.value) + Int128(count))
    let events = history.events
    for at in events[..<place(of: event)].indices.reversed()
    where events[at].machine == event.machine {
      switch events[at].action {
      case .vmCreated: return false
      case .filled(let start, let count, let byte):
        let filled = Interval(Int128(start.value), Int128(start.value) + Int128(count))
        guard filled.lower < wanted.upper, wanted.lower < filled.upper else { continue }
        return byte == 0xa5 && filled.lower <= wanted.lower && wanted.upper <= filled.upper
      case .wroteMSR(_, let value, _), .hostWroteMSR(_, _, let value):
        guard events[at].isSystemTimeWrite, value.value & 1 == 1 else { continue }
        let record = Int128(value.value & ~1)
        if record < wanted.upper, wanted.lower < record + 32 { return false }
      default: continue
      }
    }
    return false
  }
}

extension MachineRun {
  fileprivate func entered(_ vcpu: Int, between earlier: Event, and later: Event) -> Bool {
    steps.contains {
      $0.event.actor == .vcpu(vcpu) && $0.event.number > earlier.number
        && $0.event.number < later.number
    }
  }
}

extension Findings {
  /// A record that its vCPU gave up in one of the ways that `concerns` names keeps every byte over a setting of the clock
  /// and an entry of that vCPU, while some live record changes: proof that updates were made.
  mutating func expectFrozen(
    in timeline: Timeline, _ concerns: (RecordOwner.GivenUp, Event) -> Bool
  ) {
    for machine in timeline.machines {
      for look in timeline.looksOverASetting(machine) {
        guard case .givenUp(let vcpu, let how, let write)? = look.after.owner,
          write.number < look.before.event.number, concerns(how, write),
          case .page(_, let address, let old) = look.before.event.action,
          case .page(_, _, let new) = look.after.event.action
        else { continue }
        guard look.isAlive || old != new else {
          lacks("no live record changed either, so nothing shows that updates were made")
          continue
        }
        let setting = look.after.machine.setting?.event ?? look.before.event
        let hasEntered = machine.entered(vcpu, between: setting, and: look.after.event)
        guard hasEntered || old != new else {
          lacks("vcpu\(vcpu) was not entered after the clock was set")
          continue
        }
        cover(write.writesZero ? "0" : "another value", of: "values with bit 0 clear")
        expect(
          old == new, at: [look.before.event, look.after.event],
          "the record at \(address) as the guest left it: \(describe(old))", seen: describe(new))
      }
    }
  }
}

extension Timeline {
  /// Two looks at one address with one setting of the clock between, and whether a live record changed over that setting.
  fileprivate func looksOverASetting(
    _ machine: MachineRun
  ) -> [(before: Step, after: Step, isAlive: Bool)] {
    var last: [Hex: Step] = [:]
    var found: [(before: Step, after: Step, setting: Int)] = []
    var alive: Set<Int> = []
    for step in machine.steps {
      guard case .page(_, let address, let page) = step.event.action else { continue }
      defer { last[address] = step }
      guard let before = last[address], before.machine.settings + 1 == step.machine.settings else {
        continue
      }
      found.append((before, step, step.machine.settings))
      if case .live? = step.owner, case .page(_, _, let old) = before.event.action, old != page {
        alive.insert(step.machine.settings)
      }
    }
    return found.map { ($0.before, $0.after, alive.contains($0.setting)) }
  }
}

extension Event {
  fileprivate var writesZero: Bool {
    switch action {
    case .wroteMSR(_, let value, _), .hostWroteMSR(_, _, let value): value == 0
    default: false
    }
  }
}
