// Makes openzeppelin.json, the vectors that test_standard_tree.py holds our trees against. In an empty folder:
//   npm install @openzeppelin/merkle-tree@1.0.8 && node <this file> > <openzeppelin.json beside it>
import { createRequire } from "node:module";
const { StandardMerkleTree } = createRequire(process.cwd() + "/")("@openzeppelin/merkle-tree");

const hex = (byte, length) => "0x" + byte.toString(16).padStart(2, "0").repeat(length);
const kinds = {
  receipts: {
    types: ["bytes32", "uint64", "bytes32"],
    leaf: (n) => [hex(0x11 + (n % 3), 32), n, hex(0x11 + n + 100, 32)],
  },
  payouts: {
    types: ["address", "uint256", "bytes32"],
    leaf: (n) => [hex(0x21 + n, 20), 1_000_000 * (n + 1), hex(0x31 + n, 32)],
  },
};
const bare = (word) => word.slice(2);

const vectors = [];
for (const [kind, { types, leaf }] of Object.entries(kinds)) {
  for (const count of [1, 2, 3, 5, 8, 13]) {
    const tree = StandardMerkleTree.of(Array.from({ length: count }, (_, n) => leaf(n)), types);
    const proofs = Array.from({ length: count }, (_, n) => tree.getProof(n).map(bare));
    const choices = [[0], [count - 1, 0], [4, 1, 2], [...Array(count).keys()]];
    const many = choices
      .filter((indices) => new Set(indices).size === indices.length && Math.max(...indices) < count)
      .map((indices) => {
        const { leaves, proof, proofFlags } = tree.getMultiProof(indices);
        const order = leaves.map((values) => indices.find((n) => String(leaf(n)) === String(values)));
        return { indices, order, proof: proof.map(bare), flags: proofFlags };
      });
    vectors.push({ kind, count, root: bare(tree.root), proofs, many });
  }
}
console.log(`[\n${vectors.map((vector) => JSON.stringify(vector)).join(",\n")}\n]`);
