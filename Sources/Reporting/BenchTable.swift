public import ABIChecker
internal import FoundationEssentials

/// What `policies` or `faults` found, from the file that they wrote.
public enum BenchTable: Sendable {
  case policies(PolicyMatrix)
  case faults(FaultTable)

  /// Reads either, whichever the file holds, and trusts nothing in it.
  ///
  /// - Throws: `FileError` naming the file and what is wrong with it.
  public static func read(_ path: String) throws(FileError) -> BenchTable {
    let data = Data(try WholeFile.read(path, atMost: SavedReport.largestFile))
    let decoder = JSONDecoder()
    if let table = try? decoder.decode(FaultTable.self, from: data) { return .faults(table) }
    do {
      let matrix = try decoder.decode(PolicyMatrix.self, from: data)
      let isWhole =
        matrix.summaries.count == matrix.guests.count
        && matrix.rows.allSatisfy { $0.outcomes.count == matrix.guests.count }
      if isWhole { return .policies(matrix) }
    } catch {}
    throw FileError(
      .badData, path: path,
      cause: "not a table of policies or faults",
      remedy: "write one with `policies --output` or `faults --output`")
  }
}

extension Report {
  /// Shows a table in the report; a later one takes the place of one of the same kind.
  public mutating func include(_ table: BenchTable) {
    switch table {
    case .policies(let matrix): policies = matrix
    case .faults(let table): faults = table
    }
  }
}
