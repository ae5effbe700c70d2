internal import PVClock

extension Fault {
  static let stopped: [Fault] = [
    Fault(
      "CTRL-UNCHECKED", breaks: ["KVMCLOCKCTRL-EINVAL"],
      "KVM_KVMCLOCK_CTRL succeeds without a record: kvm_set_guest_paused() that does not look"
    ) {
      $0.tellStopped = { clock, vcpu in
        clock.vcpus[vcpu]!.isStopPending = true
        clock.vcpus[vcpu]!.needsRecord = true
        return true
      }
    },
    Fault(
      "CTRL-NO-UPDATE", breaks: ["GUESTSTOPPED-SET"],
      "KVM_KVMCLOCK_CTRL asks for no update: the guest hears of it late"
    ) {
      $0.tellStopped = { clock, vcpu in
        guard clock.vcpus[vcpu]!.hasRecord else { return false }
        clock.vcpus[vcpu]!.isStopPending = true
        return true
      }
    },
    Fault(
      "CTRL-TELLS-ALL", breaks: ["GUESTSTOPPED-ONE-VCPU"],
      also: ["GUESTSTOPPED-GUEST-CLEARS"],
      because: "a guest that has cleared the flag is told again, when another vCPU is told",
      "KVM_KVMCLOCK_CTRL tells every vCPU"
    ) {
      $0.tellStopped = { clock, vcpu in
        guard clock.vcpus[vcpu]!.hasRecord else { return false }
        for other in clock.vcpus.keys {
          clock.vcpus[other]!.isStopPending = true
          clock.vcpus[other]!.needsRecord = true
        }
        return true
      }
    },
    Fault(
      "STOPPED-LOST", breaks: ["GUESTSTOPPED-STICKY", "MIG-STOPPED"],
      "the flag is gone after the next update: Linux before 51d59c6b42; firecracker 4460"
    ) {
      $0.record = { clock, vcpu, _, record in
        if !clock.vcpus[vcpu]!.isStopPending { record.flags.remove(.guestStopped) }
      }
    },
    Fault(
      "STOPPED-COMES-BACK", breaks: ["GUESTSTOPPED-GUEST-CLEARS"],
      "a request that was served is never taken back: the guest clears the flag in vain"
    ) {
      $0.record = { clock, vcpu, _, record in
        let address = clock.vcpus[vcpu]!.recordAddress
        if clock.vcpus[vcpu]!.isStopPending { clock.memo[vcpu] = address }
        if clock.memo[vcpu] == address { record.flags.insert(.guestStopped) }
      }
    },
    Fault(
      "STOPPED-FOLLOWS", breaks: ["GUESTSTOPPED-NOT-ON-NEW-PAGE"],
      "the flag is kept in the host's own copy and goes along to the next record: the class of 24c166378026"
    ) {
      $0.record = { clock, vcpu, _, record in
        let address = clock.vcpus[vcpu]!.recordAddress
        if let last = clock.memo[vcpu], last != address, clock.memo[100 + vcpu] == 1 {
          record.flags.insert(.guestStopped)
        }
        clock.memo[vcpu] = address
        clock.memo[100 + vcpu] = record.flags.contains(.guestStopped) ? 1 : 0
      }
    },
    Fault(
      "PENDING-DROPPED", breaks: ["GUESTSTOPPED-PENDING"],
      "a request that was not served is forgotten when the record goes away"
    ) {
      $0.beforeWrite { clock, access, value in
        if access.isSystemTime, value & 1 == 0 { clock.vcpus[access.vcpu]!.isStopPending = false }
      }
    },
  ]
}
