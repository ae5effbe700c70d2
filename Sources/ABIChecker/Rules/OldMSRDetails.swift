internal import PVClock

// Section E of the catalogue: what a write of the old MSR does, and whose.

extension Rule {
  static let oldMSRDetails: [Rule] = [.stableOldMSRHostNoEffect, .oldMSRRefreshTimestamp]

  static let stableOldMSRHostNoEffect = Rule(
    "STABLE-OLDMSR-HOST-NOEFFECT",
    "KVM_SET_MSRS of 0x12 on vCPU 0 leaves master-clock mode alone: only the guest's own write takes it away. "
      + "User space restores every guest through either MSR.",
    source: "Linux 54750f2cf042 (4.0); arch/x86/kvm/x86.c, kvm_write_system_time(), host_initiated",
    method:
      "In master-clock mode the host writes 0x12 on vCPU 0; all enter; look at the records and at KVM_GET_CLOCK.",
    scenarios: [.hostRegisters],
    faults: ["the note of the old MSR taken for the host's writes too in kvm_write_system_time()"]
  ) { timeline in
    var findings = Findings()
    var newest = NewestPair()
    var wasStable = false
    var write: Event?
    var entered: Set<Int> = []
    for event in timeline.history.events {
      let isNew = newest.take(event)
      if newest.isBootVCPUOnOldMSR || isNew { (wasStable, write) = (false, nil) }
      if case .vcpu(let vcpu) = event.actor { entered.insert(vcpu) }
      switch event.action {
      case .vmCreated, .vcpuCreated: (wasStable, write) = (false, nil)
      case .hostWroteMSR(vcpu: 0, let msr, let value)
      where MSR.isOldSystemTime(msr) && value.value & 1 == 1:
        guard wasStable else {
          findings.lacks(
            "KVM_GET_CLOCK did not say before the write that the VM had a master clock")
          continue
        }
        (write, entered) = (event, [])
      case .getClock(let record):
        if newest.hasEntered, write == nil { wasStable = record.isTSCStable }
        guard let write, entered.contains(0) else { continue }
        findings.expect(
          record.isTSCStable, at: [write, event], "KVM_CLOCK_TSC_STABLE still set",
          seen: "flags \(Hex(record.flags))")
      case .page(let vcpu, _, let page):
        guard let write, entered.isSuperset(of: [0, vcpu]), newest.isHeld(by: vcpu) else {
          continue
        }
        findings.expect(
          page.flags.contains(.tscStable), at: [write, event],
          "bit 0 still set in vcpu\(vcpu)'s record",
          seen: "flags \(Hex(UInt64(page.flags.rawValue)))")
      default: continue
      }
    }
    return findings.outcome(
      atLeast: 3, "records and KVM_GET_CLOCK after the host's write", in: timeline)
  }

  static let oldMSRRefreshTimestamp = Rule(
    "OLDMSR-REFRESH-TIMESTAMP",
    "Once vCPU 0's guest has gone to the old MSR, each write of 0x12 with bit 0 set, on any vCPU, moves tsc_timestamp to the "
      + "time of the write: SLES 10's 2.6.16 needs it fresh.",
    source: "Linux 54750f2cf042 (4.0)",
    method:
      "The guest reads its TSC, writes the MSR, and reads record and TSC: tsc_timestamp lies between the two.",
    scenarios: [.oldMSRTimestamp],
    faults: [
      "master-clock mode that does not depend on boot_vcpu_runs_old_kvmclock in pvclock_update_vm_gtod_copy()",
      "no KVM_REQ_CLOCK_UPDATE from kvm_write_system_time()",
    ]
  ) { timeline in
    var findings = Findings()
    var writes: [Int: Event] = [:]
    for (write, read) in timeline.writesWithRead { writes[read.number] = write }
    var newest = NewestPair()
    var last: [Int: (event: Event, reading: Reading)] = [:]
    var vcpus: Set<Int> = []
    for event in timeline.history.events {
      _ = newest.take(event)
      if case .vmCreated = event.action { last = [:] }
      guard case .vcpu(let vcpu) = event.actor,
        case .read(_, _, let reading, settled: true) = event.action
      else { continue }
      defer { last[vcpu] = (event, reading) }
      guard let write = writes[event.number], case .wroteMSR(let msr, _, _) = write.action,
        MSR.isOldSystemTime(msr), newest.isBootVCPUOnOldMSR,
        let (earlier, before) = last[vcpu], earlier.number < write.number
      else { continue }
      let stamp = reading.page.tscTimestamp
      vcpus.insert(vcpu)
      findings.expect(
        difference(stamp, before.tsc) >= 0 && difference(reading.tsc, stamp) >= 0,
        at: [earlier, write, event],
        "tsc_timestamp between vcpu\(vcpu)'s own TSC before its write of 0x12 and after it: "
          + "\(before.tsc) and \(reading.tsc) cycles",
        seen: difference(stamp, before.tsc) < 0
          ? "\(stamp), \(difference(before.tsc, stamp)) cycles before the first"
          : "\(stamp), \(difference(stamp, reading.tsc)) cycles after the second")
    }
    return findings.outcome(
      atLeast: vcpus.count >= 2 ? 8 : .max, "writes of the old MSR on two vCPUs", in: timeline)
  }
}
