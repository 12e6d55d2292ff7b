// Prints what dcmjs reads in a SEG or an SR, as JSON.
//   node read_with_dcmjs.mjs DCMJS_FOLDER FILE
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const [dcmjsFolder, file] = process.argv.slice(2);
const { BitArray, Colors, DicomMessage, DicomMetaDictionary } = createRequire(import.meta.url)(dcmjsFolder).data;

const bytes = readFileSync(file);
const dict = DicomMessage.readFile(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength)).dict;
const dataset = DicomMetaDictionary.naturalizeDataset(dict);

// A sequence of one item reads as that item, several as an array.
const items = (sequence) => (sequence === undefined ? [] : Array.isArray(sequence) ? sequence : [sequence]);
const first = (sequence) => items(sequence)[0];

function segmentation({ Rows, Columns, SegmentSequence, PixelData, ...groups }) {
  const voxels = BitArray.unpack(first(PixelData));
  const shared = first(groups.SharedFunctionalGroupsSequence);
  return {
    segments: items(SegmentSequence).map((segment) => ({
      number: segment.SegmentNumber,
      label: segment.SegmentLabel,
      type: first(segment.SegmentedPropertyTypeCodeSequence).CodeMeaning,
      rgb: Colors.dicomlab2RGB(segment.RecommendedDisplayCIELabValue).map((share) => Math.round(255 * share)),
      tracking_uid: segment.TrackingUID,
    })),
    frames: items(groups.PerFrameFunctionalGroupsSequence).map((own, index) => {
      const frame = { ...shared, ...own };
      const source = first(first(frame.DerivationImageSequence).SourceImageSequence);
      const pixels = voxels.subarray(index * Rows * Columns, (index + 1) * Rows * Columns);
      return {
        segment: first(frame.SegmentIdentificationSequence).ReferencedSegmentNumber,
        image: [source.ReferencedSOPInstanceUID, source.ReferencedFrameNumber ?? null],
        inside: [...pixels].flatMap((value, at) => (value ? [at] : [])),
      };
    }),
  };
}

const nameOf = (item) => first(item.ConceptNameCodeSequence)?.CodeMeaning;

function containersNamed(item, name) {
  const within = items(item.ContentSequence).flatMap((child) => containersNamed(child, name));
  return item.ValueType === 'CONTAINER' && nameOf(item) === name ? [item, ...within] : within;
}

function measurementGroup(container) {
  const children = items(container.ContentSequence);
  const textOf = (name) => children.find((child) => nameOf(child) === name);
  const numbers = children.filter((child) => child.ValueType === 'NUM').map((child) => {
    const { NumericValue, MeasurementUnitsCodeSequence } = first(child.MeasuredValueSequence);
    return [nameOf(child), [Number(first(NumericValue)), first(MeasurementUnitsCodeSequence).CodeValue]];
  });
  return {
    name: textOf('Tracking Identifier').TextValue,
    tracking_uid: textOf('Tracking Unique Identifier').UID,
    conclusion: textOf('Conclusion')?.TextValue ?? null,
    figures: Object.fromEntries(numbers),
  };
}

const read =
  dataset.Modality === 'SEG'
    ? segmentation(dataset)
    : { title: nameOf(dataset), groups: containersNamed(dataset, 'Measurement Group').map(measurementGroup) };
console.log(JSON.stringify(read));
