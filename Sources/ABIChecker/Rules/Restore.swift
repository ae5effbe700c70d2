internal import PVClock

// A VM that goes on from a saved one: its vCPUs' TSCs, restored one after the other.

extension Rule {
  static let restore: [Rule] = [
    .restoreTSCInStep, .restoreMasterClock, .restoreTSCApart, .restoreApartKeepsTime,
    .restoreParked, .tscFirstWriteKept, .setclockBeforeVCPUs, .restoreAnyOrder,
    .restoreByOffset, .restoreTwice,
  ]

  /// The window of 1 s stands in the code alone, but all VMMs that restore by KVM_SET_MSRS rest on it.
  private static let window = Source.guest(
    "VMMs that restore IA32_TSC by KVM_SET_MSRS, one vCPU after the other: QEMU, Firecracker, cloud-hypervisor"
  )
  private static let synchronize = Source.x86("kvm_synchronize_tsc()")

  private static let inStep = "vCPUs in step"

  static let restoreTSCInStep = Rule(
    "RESTORE-TSC-IN-STEP",
    "vCPUs whose IA32_TSC the host writes one after the other, with values less than 1 s apart, have one TSC, that of the "
      + "first one written; so has a vCPU that is made after them.",
    sources: [.commit("Linux f38e098ff3a3 (2.6.37)"), window, synchronize],
    method:
      "Save the TSCs; in a new VM write them with KVM_SET_MSRS, 2 ms between two vCPUs, the second one as saved, 0.6 s ahead "
      + "and 0.6 s behind; add a vCPU; write 1 to all, as at a reset, and add one. Compare the guests' RDTSC with the host's.",
    scenarios: [.restoreTSC],
    coverage: [
      .observations(6, "TSCs beside that of the vCPU written first"),
      .each(
        [
          "restored after another one", "made after a restore", "made after a reset",
          "written again on a VM that ran",
        ], inStep),
    ], needs: [.tscWrites]
  ) { timeline, findings in
    guard findings.trustsTSCWrites(of: timeline) else { return }
    for run in timeline.restoredRuns {
      guard let leader = run.groups.leader, let vcpu = run.step.vcpu, run.step.showsTSC,
        run.groups.together.contains(vcpu)
      else { continue }
      for follower in vcpu == leader ? run.groups.together : [vcpu] where follower != leader {
        findings.expectInStep(follower, with: leader, in: run, timeline)
      }
    }
  }

  static let restoreMasterClock = Rule(
    "RESTORE-MASTER-CLOCK",
    "A VM whose vCPUs' IA32_TSC the host wrote one after the other, with values less than 1 s apart, is in master-clock mode: "
      + "bit 0 is set in every record and KVM_GET_CLOCK returns KVM_CLOCK_TSC_STABLE, also with a vCPU that never runs.",
    sources: [
      .commit("Linux b48aa97e3820 (3.8)"),
      .guest("QEMU 3f2a05b31ee9, for parked vCPUs"),
      window,
      synchronize,
    ],
    method:
      "As for RESTORE-TSC-IN-STEP, and with a third vCPU whose TSC is restored and which never enters. All others enter twice; "
      + "read the records and KVM_GET_CLOCK.",
    scenarios: [.restoreTSC],
    coverage: .masterClock(12, " after TSCs were restored") + [
      .each(
        ["restored", "with a vCPU that never runs", "with a vCPU made later", "written again"],
        "machines")
    ], needs: [.tscWrites, .masterClock]
  ) { timeline, findings in
    guard findings.trustsTSCWrites(of: timeline), findings.hadMasterClock(in: timeline) else {
      return
    }
    for run in timeline.restoredRuns {
      guard run.groups.hold(allOf: run.step.machine), run.isSettled,
        let leader = run.groups.leader, let write = run.groups.written[leader]
      else { continue }
      let isSeen = findings.expectMasterClock(
        true, at: run.step, since: write.event,
        why: "the TSCs of all vCPUs were written less than 1 s apart")
      guard isSeen else { continue }
      findings.cover(
        !run.idle.isEmpty
          ? "with a vCPU that never runs"
          : run.hasLateVCPU
            ? "with a vCPU made later" : write.hadEntered ? "written again" : "restored",
        of: "machines")
    }
  }

  static let restoreTSCApart = Rule(
    "RESTORE-TSC-APART",
    "vCPUs whose IA32_TSC the host writes with values more than 1 s apart keep them, and the VM is not in master-clock mode: "
      + "bit 0 is clear in every record, and KVM_GET_CLOCK does not return KVM_CLOCK_TSC_STABLE.",
    sources: [
      .commit("Linux b48aa97e3820 (3.8)"),
      .msr("MSR_KVM_SYSTEM_TIME_NEW, flags, bit 0"),
      synchronize,
    ],
    method:
      "In a new VM write vcpu0's saved TSC, and one 1.5 s ahead of it, or behind, to vcpu1; all enter; compare the guests' "
      + "RDTSC with the host's; read the records and KVM_GET_CLOCK.",
    scenarios: [.restoreTSC],
    coverage: .masterClock(8, " of TSCs apart", records: 2) + [
      .count(4, "TSCs that kept what was written"), .each(["ahead", "behind"], "later TSCs"),
    ], needs: [.tscWrites, .masterClock]
  ) { timeline, findings in
    guard findings.trustsTSCWrites(of: timeline), findings.hadMasterClock(in: timeline) else {
      return
    }
    for run in timeline.restoredRuns where run.isWhollyApart {
      findings.expectKept(in: run, timeline)
      guard run.isSettled, let leader = run.groups.leader, let write = run.groups.written[leader]
      else { continue }
      findings.expectMasterClock(
        false, at: run.step, since: write.event,
        why: "the TSCs of its vCPUs were written more than 1 s apart")
    }
  }

  static let restoreApartKeepsTime = Rule(
    "RESTORE-APART-KEEPS-TIME",
    "On vCPUs whose IA32_TSC was restored with values more than 1 s apart the clock is the VM's one clock all the same: each "
      + "reads the value of KVM_SET_CLOCK plus the time since.",
    sources: [.api("4.30 KVM_SET_CLOCK"), .msr("MSR_KVM_SYSTEM_TIME_NEW (the formula)")],
    method: "As for RESTORE-TSC-APART; each vCPU reads its clock.",
    scenarios: [.restoreTSC],
    coverage: [
      .observations(4, "readings on TSCs apart"), .different(2, "vCPUs"),
      .each(["ahead", "behind"], "later TSCs"),
    ], needs: [.tscWrites]
  ) { timeline, findings in
    guard findings.trustsTSCWrites(of: timeline) else { return }
    for run in timeline.restoredRuns where run.isWhollyApart {
      guard let setting = run.step.machine.setting, !setting.record.hasRealtime else { continue }
      for reading in run.step.observations where reading.vcpu != nil {
        let counts = findings.expectValue(
          setting.record.clock, since: setting.event, at: reading, in: timeline,
          why: "the TSCs are apart, the clock is one, and CLOCK_MONOTONIC_RAW counted so much since"
        )
        guard counts else { continue }
        findings.cover(vcpu: reading.vcpu)
        findings.cover(direction: run)
      }
    }
  }

  static let restoreParked = Rule(
    "RESTORE-PARKED",
    "Whether a vCPU that never runs, and whose IA32_TSC is not restored, keeps the VM out of master-clock mode.",
    sources: [
      .x86("pvclock_update_vm_gtod_copy(), online_vcpus"),
      .guest("QEMU 3f2a05b31ee9: a CPU that is unplugged stays as a vCPU"),
    ],
    method:
      "Three vCPUs; restore the TSCs of two; these enter twice; read the records and KVM_GET_CLOCK.",
    scenarios: [.restoreTSC], needs: [.tscWrites, .masterClock], isObservation: true
  ) { timeline, findings in
    guard findings.trustsTSCWrites(of: timeline), findings.hadMasterClock(in: timeline) else {
      return
    }
    for run in timeline.restoredRuns {
      let others = run.groups.together.union(run.idle)
      guard !run.idle.isEmpty, run.groups.together.isDisjoint(with: run.idle), run.isSettled,
        others.count == run.step.machine.vcpus, let isStable = run.step.showsMasterClock
      else { continue }
      findings.report(
        "bit 0 is \(isStable ? "set" : "clear") while a vCPU that never ran has a TSC of its own")
    }
    findings.lacks("no vCPU was left out of a restore")
  }
}

/// A step on a machine on which the host writes TSCs, and what is known of these.
private struct RestoredStep {
  let step: Step
  let groups: TSCGroups
  /// What the vCPUs' own readings say of their TSCs, since these were moved last.
  let ranges: [Int: TSCOffsetRange]
  /// The vCPUs that are made and never in the guest.
  let idle: Set<Int>
  /// Whether all vCPUs that ever run have entered since their TSC was moved.
  let isSettled: Bool
  let hasLateVCPU: Bool

  /// Whether every vCPU has its TSC from the host, and not all the same one.
  var isWhollyApart: Bool {
    !groups.apart.isEmpty && groups.apart.union(groups.together).count == step.machine.vcpus
  }
}

extension Timeline {
  /// The steps of all machines on which the host wrote IA32_TSC, from the first such write on.
  fileprivate var restoredRuns: [RestoredStep] {
    machines.flatMap { machine in
      let entered = Set(machine.steps.compactMap { $0.isEntry ? $0.vcpu : nil })
      var groups = TSCGroups(self)
      var ranges: [Int: TSCOffsetRange] = [:]
      var awaiting: Set<Int> = []
      var made: Set<Int> = []
      var hasLate = false
      var isFresh = true
      return machine.steps.compactMap { step -> RestoredStep? in
        groups.take(step)
        if case .vcpuCreated(let vcpu) = step.event.action {
          made.insert(vcpu)
          ranges[vcpu] = nil
          hasLate = hasLate || step.after.isLate
        }
        if let vcpu = TSCMoves.vcpu(movedBy: step.event) {
          (ranges[vcpu], isFresh) = (nil, true)
          if entered.contains(vcpu) { awaiting.insert(vcpu) }
        }
        guard groups.leader != nil else { return nil }
        if step.isEntry, let vcpu = step.vcpu {
          awaiting.remove(vcpu)
          isFresh = false
        }
        if let range = step.tscOffsetRange, let vcpu = step.vcpu {
          if ranges[vcpu]?.narrow(by: range) == nil { ranges[vcpu] = range }
        }
        return RestoredStep(
          step: step, groups: groups, ranges: ranges, idle: made.subtracting(entered),
          isSettled: awaiting.isEmpty && !isFresh && !step.machine.isBootVCPUOnOldMSR,
          hasLateVCPU: hasLate)
      }
    }
  }
}

extension Step {
  fileprivate var showsTSC: Bool { tscOffsetRange != nil }
}

extension Findings {
  /// False, with the reason, if a TSC that the host wrote, and that no other write changes, is not what the guest reads.
  fileprivate mutating func trustsTSCWrites(of timeline: Timeline) -> Bool {
    for run in timeline.restoredRuns {
      guard let leader = run.groups.leader, let write = run.groups.written[leader],
        write.isFirst, write.isKept, let range = run.ranges[leader], run.step.vcpu == leader,
        !range.mayBe(write.offset)
      else { continue }
      let off = range.distance(from: write.offset)
      lacks(
        "the host wrote \(Hex(write.value)) to vcpu\(leader)'s IA32_TSC, and its TSC is \(off.lower) to \(off.upper) "
          + "cycles from that")
      return false
    }
    return true
  }

  /// False, with the reason, if no machine was in master-clock mode before the host wrote TSCs.
  fileprivate mutating func hadMasterClock(in timeline: Timeline) -> Bool {
    let had = timeline.machines.contains { machine in
      machine.steps.contains { !$0.machine.mayBeUnmatched && $0.showsMasterClock == true }
    }
    if !had { lacks("the VM was not in master-clock mode before a TSC was written") }
    return had
  }

  fileprivate mutating func expectInStep(
    _ follower: Int, with leader: Int, in run: RestoredStep, _ timeline: Timeline
  ) {
    guard let own = run.ranges[follower], let first = run.ranges[leader] else { return }
    let distance = own.distance(from: first)
    let write = run.groups.written[follower]
    guard distance.contains(0) || timeline.isTSC else {
      return lacks("the host does not run on its TSC: it may be unstable, and TSCs differ")
    }
    // A bracket in which the value as written would pass for the other one's TSC tells nothing.
    if distance.contains(0), write?.offset.mayBe(first) ?? false {
      return cannotTell(
        "vcpu\(follower)'s TSC is \(distance.lower) to \(distance.upper) cycles from vcpu\(leader)'s by their readings, "
          + "and the values written are no further apart")
    }
    let events = [run.groups.written[leader]?.event, write?.event, run.step.event]
    expect(
      distance.contains(0), at: events.compactMap { $0 },
      "vcpu\(follower)'s TSC to be vcpu\(leader)'s: "
        + (write.map { "\(Hex($0.value)) was written to it, less than 1 s from that" }
          ?? "it was made after that was written"),
      seen: "\(distance.lower) to \(distance.upper) cycles ahead of it")
    cover(
      write.map {
        $0.hadEntered ? "written again on a VM that ran" : "restored after another one"
      }
        ?? (run.groups.written[leader]?.hadEntered == true
          ? "made after a reset" : "made after a restore"),
      of: "vCPUs in step")
  }

  /// Each vCPU's TSC goes on from the value that was written to it.
  fileprivate mutating func expectKept(in run: RestoredStep, _ timeline: Timeline) {
    guard let vcpu = run.step.vcpu, run.step.showsTSC, let range = run.ranges[vcpu],
      let write = run.groups.written[vcpu], write.isKept
    else { return }
    let off = range.distance(from: write.offset)
    expect(
      off.contains(0), at: [write.event, run.step.event],
      "vcpu\(vcpu)'s TSC to go on from \(Hex(write.value)), which was written to it, more than 1 s from the others' TSCs",
      seen: "\(off.lower) to \(off.upper) cycles from that")
    count("TSCs that kept what was written")
    cover(direction: run)
  }

  fileprivate mutating func cover(direction run: RestoredStep) {
    guard let leader = run.groups.leader, let other = run.groups.apart.first,
      let later = run.groups.written[leader], let earlier = run.groups.written[other]
    else { return }
    let isAhead = later.offset.distance(from: earlier.offset).lower > 0
    cover(isAhead ? "ahead" : "behind", of: "later TSCs")
  }
}
