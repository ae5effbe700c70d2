internal import PVClock

// PVCLOCK_GUEST_STOPPED, and KVM_KVMCLOCK_CTRL that sets it.

extension Rule {
  static let guestStopped: [Rule] = [
    .kvmclockctrlEINVAL, .guestStoppedSet, .guestStoppedOneVCPU, .guestStoppedSticky,
    .guestStoppedGuestClears, .guestStoppedNotOnNewPage,
    .guestStoppedSurvivesUnreachable, .guestStoppedPending,
  ]

  private static let document = Source.api("4.70 KVM_KVMCLOCK_CTRL")

  static let kvmclockctrlEINVAL = Rule(
    "KVMCLOCKCTRL-EINVAL",
    "KVM_KVMCLOCK_CTRL fails with EINVAL while the vCPU has no record registered: it never had one, the guest or the "
      + "host disabled it, or INIT reset the vCPU.",
    sources: [
      .guest(
        "QEMU takes EINVAL, and no other error, for a guest without kvmclock: hw/i386/kvm/clock.c, do_kvmclock_ctrl()"
      ),
      .x86("kvm_set_guest_paused()"),
    ],
    method: "KVM_KVMCLOCK_CTRL in each of these states; INIT needs an in-kernel irqchip.",
    scenarios: [.guestStopped],
    coverage: [
      .each(
        ["never registered", "disabled by the guest", "disabled by the host", "reset by INIT"],
        "states without a record"),
      .observations(6, "refusals"),
    ], needs: [.clockControl]
  ) { timeline, findings in
    for step in timeline.steps where step.after.record == nil {
      guard case .toldStopped(let vcpu, let error) = step.event.action else { continue }
      let state = step.after.stateWithoutRecord
      findings.expect(
        error == .invalidArgument, at: [step.event],
        "EINVAL from KVM_KVMCLOCK_CTRL for vcpu\(vcpu), whose record is \(state)",
        seen: error.description)
      findings.cover(state, of: "states without a record")
    }
    findings.excuse("reset by INIT", of: "states without a record", in: timeline)
  }

  static let guestStoppedSet = Rule(
    "GUESTSTOPPED-SET",
    "With a record registered KVM_KVMCLOCK_CTRL succeeds, and bit 1 is set in the record at the vCPU's next entry, not "
      + "before, with the master clock and without it.",
    sources: [document, .x86("kvm_setup_guest_pvclock()")],
    method:
      "Read the record, KVM_KVMCLOCK_CTRL, read, enter, read; also while vCPU 0 uses the old MSR.",
    scenarios: [.guestStopped],
    coverage: [
      .count(2, "records before the entry"), .count(2, "records after the entry"),
      .count(2, "records after the entry without bit 0"),
      .observations(6, "answers, and records before and after the entry"),
    ], needs: [.clockControl]
  ) { timeline, findings in
    for machine in timeline.machines {
      let walk = StoppedWalk(machine)
      for (event, vcpu, error) in walk.answers {
        findings.expect(
          error == .none, at: [event],
          "success of KVM_KVMCLOCK_CTRL for vcpu\(vcpu), whose record is registered",
          seen: error.description)
      }
      for look in walk.looks {
        switch look.bit {
        case .requested(let request, wasClear: true):
          findings.expectStopped(
            false, in: look, since: request, "before the entry after KVM_KVMCLOCK_CTRL")
          findings.count("records before the entry")
        case .delivered(let request):
          findings.expectStopped(
            true, in: look, since: request, "after KVM_KVMCLOCK_CTRL and an entry")
          findings.count("records after the entry")
          if !look.page.flags.contains(.tscStable) {
            findings.count("records after the entry without bit 0")
          }
        default: continue
        }
      }
    }
  }

  static let guestStoppedOneVCPU = Rule(
    "GUESTSTOPPED-ONE-VCPU",
    "KVM_KVMCLOCK_CTRL concerns one vCPU: bit 1 stays clear in every other vCPU's record.",
    sources: [document],
    method:
      "KVM_KVMCLOCK_CTRL for one vCPU; set the clock, so that every record is updated; all enter; read the other records.",
    scenarios: [.guestStopped],
    coverage: [
      .everyVCPU("updated records of other vCPUs"),
      .observations(2, "updated records of other vCPUs"),
    ], needs: [.clockControl]
  ) { timeline, findings in
    for machine in timeline.machines {
      for look in StoppedWalk(machine).looks where look.isUpdated && look.bit?.isSet == false {
        guard let request = look.otherRequest else { continue }
        findings.expectStopped(
          false, in: look, since: request, "after KVM_KVMCLOCK_CTRL for another vCPU")
        findings.cover(vcpu: look.vcpu, of: "updated records of other vCPUs")
      }
    }
  }

  static let guestStoppedSticky = Rule(
    "GUESTSTOPPED-STICKY",
    "Once bit 1 is set, it stays over any number of updates until the guest clears it.",
    sources: [document, .x86("kvm_setup_guest_pvclock()")],
    method:
      "KVM_SET_CLOCK and an entry, then the same record registered again, several times; the version shows that the "
      + "record was updated.",
    scenarios: [.guestStopped],
    coverage: [.observations(10, "updates of a record with bit 1")], needs: [.clockControl]
  ) { timeline, findings in
    for machine in timeline.machines {
      for look in StoppedWalk(machine).looks where look.isUpdated {
        guard case .seen(true, let last) = look.bit else { continue }
        findings.expectStopped(true, in: look, since: last, "over an update")
      }
    }
  }

  static let guestStoppedGuestClears = Rule(
    "GUESTSTOPPED-GUEST-CLEARS",
    "After the guest cleared bit 1 the host does not set it again by itself.",
    sources: [document],
    method: "The guest clears the bit; updates as for GUESTSTOPPED-STICKY.",
    scenarios: [.guestStopped],
    coverage: [.observations(10, "updates of a record whose bit 1 the guest had cleared")],
    needs: [.clockControl]
  ) { timeline, findings in
    for machine in timeline.machines {
      for look in StoppedWalk(machine).looks where look.isUpdated {
        guard case .cleared(let write) = look.bit else { continue }
        findings.expectStopped(false, in: look, since: write, "after the guest cleared it")
      }
    }
  }

  static let guestStoppedNotOnNewPage = Rule(
    "GUESTSTOPPED-NOT-ON-NEW-PAGE",
    "Bit 1 stays with the record that it was delivered to: it is clear in a record that the vCPU registers afterwards in "
      + "fresh memory.",
    sources: [.commit("Linux 24c166378026 (6.15)"), .x86("kvm_setup_guest_pvclock()")],
    method:
      "Bit 1 in a record; the guest registers fresh memory; read the new record, then again after updates.",
    scenarios: [.guestStopped],
    coverage: [.observations(4, "fresh records after one with bit 1")], needs: [.clockControl]
  ) { timeline, findings in
    for machine in timeline.machines {
      for look in StoppedWalk(machine).looks {
        guard case .fresh(let write, afterSet: true) = look.bit else { continue }
        findings.expectStopped(
          false, in: look, since: write, "in memory that was fresh when it was registered")
      }
    }
  }

  static let guestStoppedSurvivesUnreachable = Rule(
    "GUESTSTOPPED-SURVIVES-UNREACHABLE",
    "A request of KVM_KVMCLOCK_CTRL is not lost where the vCPU's next entry cannot deliver it, because no slot holds the "
      + "record, or the host may not read or not write the memory behind it: bit 1 is set in the first update after the "
      + "memory came back.",
    sources: [
      document,
      .guest(
        "Linux's soft lockup watchdog asks for the bit, kvm_check_and_clear_guest_paused(), and reports a lockup "
          + "without it"),
    ],
    method:
      "KVM_KVMCLOCK_CTRL before and after the record's slot is deleted, and before and after mprotect() takes the right to "
      + "write its memory, or all rights; the vCPU enters twice; the memory comes back as it was, after a deleted slot also "
      + "another one; set the clock, enter, and read the record.",
    scenarios: [.stoppedUnreachable],
    coverage: [
      .each(
        Obstacle.allCases.flatMap {
          ["\($0.rawValue), told before", "\($0.rawValue), told after"]
        },
        "what the record lay in"),
      .everyVCPU("records that came back"), .observations(12, "records that came back"),
    ], needs: [.clockControl]
  ) { timeline, findings in
    for machine in timeline.machines {
      var requests: [Int: UndeliveredRequest] = [:]
      for step in machine.steps {
        requests.take(step)
        guard case .page(let vcpu, let address, let page) = step.event.action,
          let request = requests[vcpu], address.value == request.record, let back = request.updated
        else { continue }
        findings.expect(
          page.flags.contains(.guestStopped), at: [request.event, back, step.event],
          "bit 1 set in vcpu\(vcpu)'s record, which lay in \(request.missed?.rawValue ?? "?") when the vCPU entered after "
            + "KVM_KVMCLOCK_CTRL",
          seen: "flags \(Hex(UInt64(page.flags.rawValue)))", fits: request.missed == .readOnly)
        findings.cover(
          "\(request.missed?.rawValue ?? "?"), told \(request.wasGone ? "after" : "before")",
          of: "what the record lay in")
        findings.cover(vcpu: vcpu, of: "records that came back")
        requests[vcpu] = nil
      }
    }
  }

  static let guestStoppedPending = Rule(
    "GUESTSTOPPED-PENDING",
    "Whether bit 1 is set in the record registered next if the record is disabled between KVM_KVMCLOCK_CTRL and the "
      + "vCPU's entry.",
    sources: [.x86("kvm_set_guest_paused()")],
    method:
      "KVM_KVMCLOCK_CTRL; the host disables the record; the guest registers another one; read it.",
    scenarios: [.guestStopped], needs: [.clockControl], isObservation: true
  ) { timeline, findings in
    for machine in timeline.machines {
      for look in StoppedWalk(machine).looks {
        guard case .pending = look.bit else { continue }
        findings.report(
          look.isSet
            ? "bit 1 is set in the record registered next: the request outlives the record"
            : "bit 1 is clear in the record registered next (flags "
              + "\(Hex(UInt64(look.page.flags.rawValue))))")
      }
    }
    findings.lacks("no record was disabled after the request")
  }
}

/// A request of KVM_KVMCLOCK_CTRL whose vCPU entered while KVM could not write its record.
private struct UndeliveredRequest {
  let event: Event
  let record: UInt64
  /// Whether KVM could not write the record when the request was made.
  let wasGone: Bool
  /// What was in the way at the entry.
  var missed: Obstacle?
  /// The clock was set after the memory came back.
  var isDue = false
  /// The vCPU's entry after that.
  var updated: Event?
}

extension [Int: UndeliveredRequest] {
  /// What a step does to the requests, by vCPU. Who writes the record by other means, or registers again, ends the question.
  fileprivate mutating func take(_ step: Step) {
    let memory = step.machine.memory
    func obstacle(_ record: UInt64) -> Obstacle? {
      memory.obstacle(at: record, count: Int128(ClockPage.size))
    }
    switch step.event.action {
    case .toldStopped(let vcpu, .none):
      guard self[vcpu] == nil, let record = step.after.record else { return }
      self[vcpu] = UndeliveredRequest(
        event: step.event, record: record, wasGone: obstacle(record) != nil)
    case .filled, .poked, .remapped, .saved: removeAll()
    case .setClock:
      for (vcpu, request) in self where request.missed != nil && obstacle(request.record) == nil {
        self[vcpu]?.isDue = true
      }
    default: break
    }
    guard let vcpu = step.vcpu, let request = self[vcpu] else { return }
    if step.event.isSystemTimeWrite || step.after.record != request.record {
      self[vcpu] = nil
    } else if step.isEntry, let obstacle = obstacle(request.record) {
      self[vcpu]?.missed = obstacle
    } else if step.isEntry, request.isDue {
      self[vcpu]?.updated = request.updated ?? step.event
    }
  }
}

extension VCPUState {
  /// Why the vCPU has no record.
  fileprivate var stateWithoutRecord: String {
    if let reset { return reset.how.isINIT ? "reset by INIT" : "reset by user space" }
    guard let systemTime else { return "never registered" }
    return systemTime.isByHost ? "disabled by the host" : "disabled by the guest"
  }
}

extension Findings {
  /// Bit 1 of the record, in an event after `cause`.
  fileprivate mutating func expectStopped(
    _ expected: Bool, in look: StoppedLook, since cause: Event, _ when: String
  ) {
    expect(
      look.isSet == expected, at: [cause, look.event],
      "bit 1 \(expected ? "set" : "clear") in vcpu\(look.vcpu)'s record \(when)",
      seen: "flags \(Hex(UInt64(look.page.flags.rawValue)))")
  }
}
