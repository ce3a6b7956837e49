"""Random objects close to each other, some of them crowds, and detected boxes near them."""

import numpy as np

from samebox.coco.dataset import coco_index

IMAGES, CLASSES = 40, 3
IDS = range(1, IMAGES + 1)


def random_truth(rng):
    """Objects with sides around 32 and 96, the limits of small and large; image 1 and class 3 are empty."""
    objects = []
    for image in IDS[1:]:
        corner = rng.uniform(0, 60, 2)
        for _ in range(rng.integers(1, 7)):
            side = rng.choice([28, 33, 92, 99]) + rng.uniform(-3, 3, 2)
            box = [*(corner + rng.uniform(0, 12, 2)), *side]
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": image,
                    "category_id": int(rng.integers(1, CLASSES)),
                    "bbox": box,
                    "area": float(np.prod(side)),
                    "iscrowd": int(rng.random() < 0.15),
                }
            )
    return ground_truth(objects)


def ground_truth(objects):
    return coco_index(
        {
            "images": [{"id": i, "file_name": f"{i}.jpg", "width": 200, "height": 200} for i in IDS],
            "categories": [{"id": c, "name": f"class {c}"} for c in range(1, CLASSES + 1)],
            "annotations": objects,
        }
    )


def detected(truth, rng, most=6):
    """Up to `most` boxes near every object, with many equal scores, and a few far from all objects."""
    results = [
        {
            "image_id": one["image_id"],
            "category_id": one["category_id"] if rng.random() < 0.8 else int(rng.integers(1, CLASSES + 1)),
            "bbox": (np.array(one["bbox"]) + rng.normal(0, 3, 4)).tolist(),
            "score": round(float(rng.random()), 2),
        }
        for one in truth.dataset["annotations"]
        for _ in range(rng.integers(0, most))
    ]
    far = [
        {"image_id": int(image), "category_id": 1, "bbox": [150, 150, 20, 20], "score": 0.99}
        for image in (1, 2, 3)
    ]
    return [results[place] for place in rng.permutation(len(results))] + far
