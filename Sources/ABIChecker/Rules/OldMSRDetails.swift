internal import PVClock

// The effects of a write of the old MSR, by whom and on which vCPU.

extension Rule {
  static let oldMSRDetails: [Rule] = [.stableOldMSRHostNoEffect, .oldMSRRefreshTimestamp]

  static let stableOldMSRHostNoEffect = Rule(
    "STABLE-OLDMSR-HOST-NOEFFECT",
    "KVM_SET_MSRS of 0x12 on vCPU 0 does not end master-clock mode; only a write by the guest does.",
    sources: [
      .guest(
        "QEMU restores every guest's system-time MSR through 0x12: target/i386/kvm/kvm.c, kvm_put_msrs()"
      ),
      .x86("kvm_write_system_time(), host_initiated"),
    ],
    method:
      "In master-clock mode the host writes 0x12 on vCPU 0; vCPU 0 enters, then the others; read the records and "
      + "KVM_GET_CLOCK.",
    scenarios: [.hostRegisters], coverage: .masterClock(3, " after the host's write"),
    needs: [.masterClock]
  ) { timeline, findings in
    for machine in timeline.machines {
      // The last flag of KVM_GET_CLOCK, unless something else may have changed the mode since.
      var isMasterClock = false
      var write: Event?
      // The entry of vCPU 0 that serves the write; every other record shows its effect after an entry of its own.
      var entry: Event?
      for step in machine.steps {
        if step.machine.isBootVCPUOnOldMSR || step.machine.mayHaveNewPair {
          (isMasterClock, write, entry) = (false, nil, nil)
        }
        if write != nil, step.event.actor == .vcpu(0) { entry = entry ?? step.event }
        if let wanted = step.systemTimeWrite, step.vcpu == 0, wanted.isByHost, wanted.isOldMSR,
          wanted.record != nil
        {
          guard isMasterClock else {
            findings.lacks("KVM_GET_CLOCK did not show a master clock before the write")
            continue
          }
          (write, entry) = (step.event, nil)
        }
        if write == nil, case .getClock = step.event.action {
          isMasterClock = step.showsMasterClock ?? false
        }
        guard let write, let entry,
          step.vcpu == nil || (step.after.lastEntry ?? .min) >= entry.number
        else { continue }
        findings.expectMasterClock(true, at: step, since: write)
      }
    }
  }

  static let oldMSRRefreshTimestamp = Rule(
    "OLDMSR-REFRESH-TIMESTAMP",
    "Once vCPU 0's guest has written the old MSR, each write of 0x12 with bit 0 set, on any vCPU, moves tsc_timestamp to "
      + "the time of the write.",
    sources: [
      .commit("Linux 54750f2cf042 (4.0)"),
      .guest("SLES 10's 2.6.16, which needs a tsc_timestamp younger than a fifth of a jiffy"),
    ],
    method:
      "The guest reads its TSC, writes the MSR, and reads record and TSC; tsc_timestamp lies between the two.",
    scenarios: [.oldMSRTimestamp],
    coverage: [.everyVCPU(), .observations(8, "writes of the old MSR")]
  ) { timeline, findings in
    for machine in timeline.machines {
      // Each vCPU's last reading, unless its TSC was moved since.
      var last: [Int: (event: Event, tsc: UInt64)] = [:]
      for step in machine.steps {
        guard let vcpu = step.vcpu else { continue }
        if step.after.isStale { last[vcpu] = nil }
        guard case .read(_, _, let reading, settled: true) = step.event.action else { continue }
        defer { last[vcpu] = (step.event, reading.tsc) }
        guard let write = step.registration, write.isOldMSR, step.machine.isBootVCPUOnOldMSR,
          let before = last[vcpu], before.event.began != step.event.began
        else { continue }
        let stamp = reading.page.tscTimestamp
        let (early, late) = (difference(before.tsc, stamp), difference(stamp, reading.tsc))
        findings.expect(
          early <= 0 && late <= 0, at: [before.event, write.event, step.event],
          "tsc_timestamp between vcpu\(vcpu)'s own TSC before its write of 0x12 and after it: "
            + "\(before.tsc) and \(reading.tsc) cycles",
          seen: "\(stamp), "
            + (early > 0 ? "\(early) cycles before the first" : "\(late) cycles after the second"))
        findings.cover(vcpu: vcpu)
      }
    }
  }
}

extension Step {
  /// The guest's registration of the record that it reads in this event, if both were in one entry.
  var registration: SystemTimeWrite? {
    guard isEntry, case .read(let address, _, _, _) = event.action, let write = after.systemTime,
      write.event.actor == event.actor, write.event.began == event.began,
      write.record == address.value
    else { return nil }
    return write
  }
}
