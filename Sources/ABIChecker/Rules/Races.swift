internal import PVClock

// Readings of vCPUs that run at the same time.

extension Rule {
  static let races: [Rule] = [
    .versionMono, .versionNoTorn, .monoCrossVCPU, .monoCrossNoStable, .vsyscallPage0,
    .stableUnentered, .oldMSRStormMono, .sharedPageSane, .hop, .readCost,
  ]

  static let monoCrossVCPU = Rule(
    "MONO-CROSS-VCPU",
    "With bit 0 set, a reading is never below an earlier reading of another vCPU.",
    sources: [
      .msr(
        "flags bit 0 (\"time measures taken across multiple cpus are guaranteed to be "
          + "monotonic\")"),
      .guest("Linux, arch/x86/kernel/pvclock.c, pvclock_clocksource_read(), which trusts bit 0"),
    ],
    method:
      "Two to four vCPUs race in ring 3: load the maximum published so far, then read the own record, publish. In every "
      + "scenario, readings of two vCPUs whose brackets do not overlap. No slack on one pair of the master clock.",
    scenarios: [.contend], everywhere: true,
    coverage: [.observations(2, "racers, and readings after another vCPU's"), .count(2, "racers")],
    needs: [.masterClock, .twoCPUs]
  ) { timeline, findings in
    findings.expectNoStepBack(inRaces: timeline, on: "its own record") { parts in
      parts.allSatisfy { $0.event.actor == .vcpu($0.owner) }
    }
    for machine in timeline.machines {
      // Each vCPU's last reading with bit 0.
      var last: [Int: Observation] = [:]
      for step in machine.steps {
        guard let vcpu = step.vcpu, step.isOnOneSetting else { continue }
        for reading in step.observations where reading.isStable {
          let earlier = last.values.filter {
            $0.vcpu != vcpu && $0.epoch == reading.epoch
              && $0.event.ended.raw <= reading.event.began.raw
          }
          if let highest = earlier.max(by: { difference($0.value, $1.value) < 0 }) {
            findings.expectNoStepBack(from: highest, to: reading, in: timeline)
          }
        }
        if let reading = step.observations.last, reading.isStable { last[vcpu] = reading }
      }
    }
  }

  static let vsyscallPage0 = Rule(
    "VSYSCALL-PAGE0-ON-VCPU1",
    "With bit 0 set, every vCPU may compute the time from vCPU 0's record, as a guest's vDSO does that maps no other, once "
      + "vCPU 0 has entered after the clock was set.",
    sources: [
      .msr("flags bit 0"),
      .guest("Linux, arch/x86/include/asm/vdso/gettimeofday.h, vread_pvclock()"),
    ],
    method:
      "Two to four vCPUs race in ring 3, all from vCPU 0's record: none may fall behind the maximum published so far.",
    scenarios: [.contend],
    coverage: [.observations(2, "racers"), .count(2, "racers")],
    needs: [.masterClock, .twoCPUs], inside: [.count(2, "racers")]
  ) { timeline, findings in
    findings.expectNoStepBack(inRaces: timeline, on: "vcpu0's record") { parts in
      parts.allSatisfy { $0.owner == 0 }
    }
  }

  static let stableUnentered = Rule(
    "STABLE-UNENTERED",
    "What the record of a vCPU says, with bit 0 set, after KVM_SET_CLOCK and before the vCPU enters: another vCPU may "
      + "compute the time from it.",
    sources: [
      .guest(
        "Linux, arch/x86/include/asm/vdso/gettimeofday.h, vread_pvclock(), reads vCPU 0's record everywhere"
      ),
      .x86("vcpu_run(): a vCPU in HLT serves no request"),
    ],
    method:
      "Set the clock; one vCPU enters; read both records. The other vCPU is in user space, then in KVM's own HLT.",
    scenarios: [.unentered], needs: [.masterClock], isObservation: true
  ) { timeline, findings in
    // The last look at each vCPU in each place.
    var said: [String: String] = [:]
    for machine in timeline.machines {
      var halted: Set<Int> = []
      // The records of the vCPUs that have entered since the clock was set.
      var served: [Int: ClockPage] = [:]
      for step in machine.steps {
        if case .halted(let vcpu) = step.event.action { halted.insert(vcpu) }
        if step.isEntry, let vcpu = step.vcpu { halted.remove(vcpu) }
        if case .setClock = step.event.action { served = [:] }
        guard case .page(let vcpu, let address, let page) = step.event.action,
          let setting = step.machine.setting, step.after.record == address.value,
          page.flags.contains(.tscStable)
        else { continue }
        if (step.after.lastEntry ?? .min) > setting.event.number {
          served[vcpu] = page
        } else if let other = served.values.first {
          let behind = difference(other.systemTime, page.systemTime(atTSC: other.tscTimestamp))
          let place = halted.contains(vcpu) ? "in KVM's own HLT" : "in user space"
          said["vcpu\(vcpu) \(place)"] =
            behind == 0
            ? "its record says what the other vCPU's says"
            : "its record has bit 0 and is \(short(abs(behind))) "
              + (behind > 0 ? "behind" : "ahead of") + " the other vCPU's"
        }
      }
    }
    if !said.isEmpty {
      findings.report(
        said.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }.joined(separator: "; "))
    }
    findings.lacks("no record with bit 0 was read before its vCPU entered")
  }

  static let monoCrossNoStable = Rule(
    "MONO-CROSS-NOSTABLE",
    "Without bit 0 two vCPUs' clocks are apart by no more than it took to make their records.",
    sources: [
      .guest(
        "Linux, arch/x86/kernel/pvclock.c, pvclock_clocksource_read(): time stands still on the vCPU that is behind"
      ),
      .x86("kvm_guest_time_update()"),
    ],
    method:
      "vCPU 0 goes to the old MSR, and the race is run again. A record may run ahead by the entry in which it was made; "
      + "one that was made during the race, by the race.",
    scenarios: [.contend],
    coverage: [.observations(1, "races without bit 0")],
    needs: [.twoCPUs]
  ) { timeline, findings in
    findings.isRace = true
    var largest: Int64 = 0
    for parts in timeline.races where parts.contains(where: { $0.result.unstable > 0 }) {
      guard parts.allSatisfy({ $0.event.actor == .vcpu($0.owner) }) else { continue }
      let worst = parts.map(\.result.worst).min() ?? 0
      let bound = parts.compactMap(timeline.lead).max() ?? 0
      findings.expect(
        Int128(worst), in: Interval(-bound, 0), limit: Timeline.widestUseful,
        at: parts.map(\.event),
        "the largest step back between vCPUs",
        why: "their records may run ahead by the entries in which they were made; "
          + parts.map { describeSteps($0.result) }.joined(separator: "; "))
      largest = min(largest, worst)
      if let shortage = parts.shortage(meeting: 1) { findings.sawTooLittle(shortage) }
    }
    findings.detail = "the largest step back \(short(-Int128(largest)))"
  }

  static let oldMSRStormMono = Rule(
    "OLDMSR-STORM-MONO",
    "While vCPU 0 writes the old MSR back to back, a vCPU's clock steps back by no more than it took to make its record "
      + "before.",
    sources: [
      .commit("Linux 54750f2cf042 (4.0)"),
      .guest("SLES 10's 2.6.16, which writes the old MSR"),
      .x86("kvm_guest_time_update()"),
    ],
    method:
      "vCPU 0 writes and reads 1000 times and times each write; vCPU 1 reads its own record meanwhile and keeps the "
      + "first and the last reading of each version.",
    scenarios: [.oldMSRStorm],
    coverage: [
      .observations(1, "loops and steps from one record to the next"), .count(1, Storm.enough),
    ],
    needs: [.twoCPUs]
  ) { timeline, findings in
    findings.isRace = true
    var storm = Storm()
    for step in timeline.steps {
      switch step.event.action {
      case .looped("rewriter", let result):
        storm.write(result)
        guard let excess = result.excess, result.unstable > 0 else { continue }
        let slack = share(timeline.rateBound, of: step.event.width) + timeline.rounding
        findings.expect(
          Int128(excess), in: Interval(0, slack), limit: 1_000_000, at: [step.event],
          "a step back, less the time that the write before it took, in \(result.reads) writes",
          why: describeSteps(result))
      case .looped("sampler", let result): storm.read(result)
      case .watched("sampler", let owner, _, let result) where step.event.actor == .vcpu(owner):
        findings.expectSteps(in: result, of: step.event, timeline)
      default: continue
      }
    }
    storm.conclude(&findings, isStable: false)
  }

  static let sharedPageSane = Rule(
    "SHARED-PAGE-SANE",
    "Two vCPUs that register one address share a record: after both wrote the MSR at the same time its version is even, "
      + "and it holds a time that one of them was given.",
    sources: [
      .msr("MSR_KVM_SYSTEM_TIME_NEW (an odd version says that an update is in progress)"),
      .x86("kvm_setup_guest_pvclock()"),
    ],
    method:
      "Both write the MSR 60 times side by side, six times; read the record at rest, then each writes and reads alone. "
      + "While both write, nothing is compared.",
    scenarios: [.sharedPage],
    coverage: [
      .observations(6, "records that two vCPUs had written, and readings after"),
      .count(3, "times in records at rest"),
    ],
    needs: [.twoCPUs]
  ) { timeline, findings in
    var writes: [Int: UInt64] = [:]
    for machine in timeline.machines {
      // The storms that moved the version.
      var storms: [Step] = []
      var rest: (event: Event, page: ClockPage)?
      var last: [Int: Observation] = [:]
      for step in machine.steps {
        let event = step.event
        switch event.action {
        case .stormed(_, let count, let versions):
          guard let vcpu = step.vcpu else { continue }
          // A write that KVM served shows in the version.
          let served = min(count, versions)
          writes[vcpu] = writes[vcpu, default: 0].addingReportingOverflow(served).partialValue
          if served > 0 { storms.append(step) }
          rest = nil
        case .setClock: (storms, rest) = ([], nil)
        case .page(_, let address, let page):
          let sharers = storms.filter { $0.after.record == address.value }
          guard Set(sharers.map(\.vcpu)).count >= 2 else { continue }
          findings.expect(
            page.version % 2 == 0, at: [event], "an even version at rest",
            seen: "version \(page.version)")
          rest = (event, page)
        default: break
        }
        guard let vcpu = step.vcpu, let now = step.observations.last else { continue }
        if let look = rest {
          findings.expectTime(of: look, storms.map(\.event), at: now, in: timeline)
          if let before = last[vcpu], before.epoch == now.epoch {
            findings.expectAdvance(from: before, to: now, in: timeline)
          }
          (rest, storms) = (nil, [])
        }
        last[vcpu] = now
      }
    }
    findings.detail = "writes that moved the version: \(writes.values.sorted())"
    if !writes.isEmpty, writes.count < 2 || writes.contains(where: { $0.value < 100 }) {
      findings.sawTooLittle("\(findings.detail), needs 100 by each of two")
    }
  }

  static let hop = Rule(
    "HOP",
    "A vCPU whose thread goes from CPU to CPU keeps its time; in master-clock mode it keeps its record.",
    sources: [
      .msr("MSR_KVM_SYSTEM_TIME_NEW, field system_time (\"monotonic time\")"),
      .x86("kvm_arch_vcpu_load()"),
    ],
    method:
      "The thread is bound to another CPU before each reading, 50 times with the master clock and 50 times without.",
    scenarios: [.hop],
    coverage: [.observations(80, "readings after moves between CPUs"), .different(2, "CPUs")],
    needs: [.twoCPUs]
  ) { timeline, findings in
    let moves = timeline.readings(aroundSteps: {
      if case .moved(let vcpu, _) = $0.event.action { vcpu } else { nil }
    })
    for (before, move, after) in moves {
      guard case .moved(_, let cpu) = move.action, let old = before.page, let new = after.page
      else { continue }
      let counted = findings.expectAdvance(
        from: before, to: after, over: [move], in: timeline,
        why: "the time that CLOCK_MONOTONIC_RAW counted; the thread came to CPU \(cpu)")
      if counted { findings.cover("CPU \(cpu)", of: "CPUs") }
      guard before.isStable, after.isStable,
        !timeline.mayHaveNewPair(from: before.event, to: after.event)
      else { continue }
      findings.expect(
        new.isUpdate(of: old), at: [before.event, move, after.event],
        "with PVCLOCK_TSC_STABLE_BIT the record as it was, except for the version: \(describe(old))",
        seen: describe(new))
    }
  }

  static let readCost = Rule(
    "READ-COST",
    "A reading of the clock costs little more than RDTSC and a few loads.",
    sources: [.implementation("arch/x86/include/asm/pvclock.h, __pvclock_read_cycles()")],
    method:
      "The least time of several rounds, in ring 3: version, RDTSC and fields, version, conversion to nanoseconds; "
      + "and of RDTSC and the same loads between the same two fences.",
    scenarios: [.readCost],
    coverage: [.count(1, "measurements")],
    isObservation: true, inside: [.count(1, "measurements")]
  ) { timeline, findings in
    for machine in timeline.machines {
      var kHz: [Int: UInt32] = [:]
      for step in machine.steps {
        if case .tscKHz(let vcpu, let value) = step.event.action { kHz[vcpu] = value }
        guard case .measured(let reads, let cycles, let bare) = step.event.action,
          let rate = step.vcpu.flatMap({ kHz[$0] }) ?? timeline.kHzInside, rate > 0, reads > 0,
          cycles > 0, bare > 0
        else { continue }
        let picoseconds = UInt128(cycles) * 1_000_000_000 / UInt128(rate) / UInt128(reads)
        let perSecond = UInt128(reads) * UInt128(rate) * 1000 / UInt128(cycles)
        let ratio = UInt128(cycles) * 100 / UInt128(bare)
        findings.report(
          "\(decimals(perSecond / 100_000, 1)) million readings a second, "
            + "\(decimals(picoseconds / 100, 1)) ns each, \(decimals(ratio, 2)) times RDTSC and the loads"
        )
      }
    }
  }
}

/// "12.34" of 1234 with two places.
private func decimals(_ value: UInt128, _ places: Int) -> String {
  let digits = String(value)
  let padded = String(repeating: "0", count: max(0, places + 1 - digits.count)) + digits
  return "\(padded.dropLast(places)).\(padded.suffix(places))"
}

extension ClockPage {
  /// The same record, whatever the version.
  fileprivate func isUpdate(of other: ClockPage) -> Bool {
    var same = self
    same.version = other.version
    return same == other
  }
}

extension Step {
  /// Whether the event began after the clock was last set.
  fileprivate var isOnOneSetting: Bool {
    machine.setting.map { $0.event.ended.raw <= event.began.raw } ?? true
  }
}

extension Findings {
  /// The time in a shared record at rest, against a reading of a vCPU after it.
  fileprivate mutating func expectTime(
    of rest: (event: Event, page: ClockPage), _ storms: [Event], at now: Observation,
    in timeline: Timeline
  ) {
    guard let began = storms.map(\.began.raw).min(), let tsc = now.guestTSC,
      rest.page.flags.contains(.tscStable) == now.isStable
    else { return }
    let isCounted: Bool
    if now.isStable {
      let mayStep = timeline.mayHaveNewPair(from: storms[0], to: now.event)
      let slack = timeline.rounding + (mayStep ? timeline.drift(until: now) : 0)
      isCounted = expect(
        difference(rest.page.systemTime(atTSC: tsc), now.value), in: Interval(-slack, slack),
        at: [rest.event, now.event],
        "the time of the record at rest, less \(now.name), \(now.value) ns,",
        why: "both come from the master clock; at rest: \(describe(rest.page))")
    } else {
      // Without the master clock the vCPUs' TSCs may differ. The record's system_time was right during the storm, or
      // after it until the record was read.
      let slack = timeline.drift(until: now) + timeline.rounding
      let least = rest.event.elapsed(to: now.event).lower
      let most = Int128(now.event.ended.raw) - Int128(began)
      isCounted = expect(
        difference(now.value, rest.page.systemTime),
        in: Interval(least - slack, most + now.lead + slack), limit: 1_000_000_000,
        at: storms + [rest.event, now.event],
        "\(now.name), less system_time of the record at rest, \(rest.page.systemTime) ns,",
        why: "the time since the storm, in which the record was made: \(describe(rest.page))")
    }
    if isCounted { count("times in records at rest") }
  }
}
