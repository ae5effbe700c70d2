internal import ABIChecker

extension Fault {
  static let restoreState: [Fault] = [
    Fault(
      "RESTORED-GUESTS-ARE-TOLD", breaks: ["RESTORE-PENDING-FLAG"],
      "every guest whose record the host registers is told that it was stopped"
    ) {
      $0.write = { clock, access, value in
        let isRecord = access.msr == MSR.systemTime || access.msr == MSR.systemTimeOld
        if isRecord, access.byHost, value & 1 == 1 {
          clock.vcpus[access.vcpu]!.isStopPending = true
        }
        return nil
      }
    },
    Fault(
      "INIT-KEEPS-RESTORED-RECORD", breaks: ["RESTORE-INIT"],
      "INIT leaves a record that the host registered"
    ) {
      $0.write = { clock, access, value in
        let isRecord = access.msr == MSR.systemTime || access.msr == MSR.systemTimeOld
        if isRecord { clock.memo[1000 + access.vcpu] = access.byHost ? 1 : 0 }
        return nil
      }
      $0.reset = { clock, vcpu in clock.memo[1000 + vcpu] == 1 }
    },
  ]
}
